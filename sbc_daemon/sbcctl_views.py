"""What `sbcctl` shows, as text. No I/O; everything that came from outside goes through `printable`."""

import datetime
from collections.abc import Sequence

from sbc_daemon.status import HeldLane, JobState, Letter, Status
from telemetry_common.text import duration, printable, size

_COLUMNS = ("JOB", "STATUS", "PHASE", "DONE", "BYTES", "SPEED", "HUB SAYS", "")


def troubles(status: Status) -> list[str]:
    """What needs a look, in words; empty when all is well."""
    found = []
    if status.hub.link == "down":
        found.append("hub unreachable" + _since(status.hub.since_seconds))
    if status.held:
        found.append(f"{_count(len(status.held), 'job')} held")
    if status.outbox.dead_letters:
        found.append(_count(status.outbox.dead_letters, "dead letter"))
    if status.outbox.in_memory:
        found.append(f"{_count(status.outbox.in_memory, 'job')} only in memory (outbox full?)")
    if status.outbox.moved_aside:
        found.append("a damaged outbox was moved aside")
    return found


def status(status: Status) -> str:
    sections = [_headline(status), _jobs(status.jobs), _outbox(status), _hub(status)]
    sections += _held(status.held)
    return "\n".join(section for section in sections if section)


def letters(found: Sequence[Letter]) -> str:
    if not found:
        return "no dead letters"
    rows = [("ID", "WHEN", "JOB", "REASON")]
    rows += [(str(one.letter_id), _when(one.at), printable(one.job_id), printable(one.reason)) for one in found]
    return _table(rows)


def letter(one: Letter) -> str:
    head = f"{one.letter_id}  {_when(one.at)}  job {printable(one.job_id)}  seq {one.seq}"
    body = "\n".join(printable(one.body[start : start + 500]) for start in range(0, len(one.body), 500))
    return f"{head}\nreason: {printable(one.reason)}\n{body}"


def _headline(status: Status) -> str:
    found = troubles(status)
    jobs = _count(len(status.jobs), "job")
    verdict = "; ".join(found) if found else f"all is well, {jobs}"
    return f"sbc-daemon {printable(status.version)} (pid {status.pid}): {verdict}"


def _jobs(jobs: Sequence[JobState]) -> str:
    return _table([_COLUMNS, *(_job(job) for job in jobs)]) if jobs else ""


def _job(job: JobState) -> tuple[str, ...]:
    marks = [mark for mark, there in (("attached", job.attached), ("waiting", job.waiting)) if there]
    total = f" / {size(job.total_bytes)}" if job.total_bytes else ""
    return (
        printable(job.job_id),
        printable(job.status),
        printable(job.current_phase or "-"),
        "-" if job.progress_percent is None else f"{job.progress_percent:.1f} %",
        "-" if job.bytes_transferred is None else size(job.bytes_transferred) + total,
        "-" if job.transfer_speed_bps is None else f"{size(job.transfer_speed_bps)}/s",
        printable(job.hub_status or "-"),
        ", ".join(marks),
    )


def _outbox(status: Status) -> str:
    box = status.outbox
    waiting = f"{_count(box.states, 'state')}, {box.progress} progress, {_count(box.samples, 'sample')}"
    oldest = "" if box.oldest_seconds is None else f", oldest {duration(box.oldest_seconds)}"
    return f"outbox  {waiting} waiting{oldest}; {_count(box.dead_letters, 'dead letter')}; {size(box.bytes_used)}"


def _held(held: Sequence[HeldLane]) -> list[str]:
    """What the hub says of many jobs alike is one line: a missing token holds them all."""
    alike: dict[str, list[HeldLane]] = {}
    for lane in held:
        alike.setdefault(lane.reason, []).append(lane)
    return [
        f"held    {_who(lanes)}: {printable(reason)}{_since(max(lane.since_seconds for lane in lanes))}"
        for reason, lanes in alike.items()
    ]


def _who(lanes: Sequence[HeldLane]) -> str:
    return printable(lanes[0].job_id) if len(lanes) == 1 else _count(len(lanes), "job")


def _hub(status: Status) -> str:
    hub = status.hub
    instead = f", in place of {printable(hub.first_url)}" if hub.first_url not in (None, hub.url) else ""
    lines = [f"hub     {printable(hub.url)} {hub.link}{_since(hub.since_seconds)}{instead}"]
    if hub.last_error:
        lines.append(f"error   {printable(hub.last_error)}")
    return "\n".join(lines)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _since(seconds: float | None) -> str:
    return "" if seconds is None else f" for {duration(seconds)}"


def _when(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
