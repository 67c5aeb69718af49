"""What `sbcctl` shows, as text in 80 columns. No I/O; everything that came from outside goes through `printable`."""

import datetime
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sbc_daemon.status import MAX_LETTERS, HeldLane, JobState, Letter, Status
from telemetry_common.contract import FINAL
from telemetry_common.text import counted, duration, printable, size

ENDED_LISTED = 10
"""Of the jobs that ended, so many of the latest are shown to a person; --json has them all."""
BAR_CELLS = 12
JOB_COLUMN = 36
"""A longer name shifts its own line only: it must stay whole, to be copied."""
_COLUMNS = ("JOB", "STATUS", "PHASE", "PRODUCER", "HUB SAYS")


class Style(NamedTuple):
    """What a terminal makes bold or red."""

    strong: str = ""
    alarm: str = ""
    off: str = ""


PLAIN = Style()
STYLED = Style("\x1b[1m", "\x1b[1;31m", "\x1b[0m")


def troubles(status: Status) -> list[str]:
    """What needs a look, in words; empty when all is well."""
    found = _contradictions(status.jobs)
    if status.hub.link == "down":
        found.append("hub unreachable" + _since(status.hub.since_seconds))
    if status.held:
        found.append(f"{counted(len(status.held), 'job')} held")
    if status.outbox.dead_letters:
        found.append(counted(status.outbox.dead_letters, "dead letter"))
    if status.outbox.in_memory:
        found.append(f"{counted(status.outbox.in_memory, 'job')} only in memory (outbox full?)")
    if status.outbox.moved_aside:
        found.append("a damaged outbox was moved aside")
    return found


def _contradictions(jobs: Sequence[JobState]) -> list[str]:
    found = [job for job in jobs if job.contradicted]
    if len(found) > 1:
        return [f"{len(found)} jobs are otherwise on the hub"]
    return [f"{printable(job.job_id)} is {printable(job.hub_status or '')} on the hub" for job in found]


def status(status: Status, style: Style = PLAIN) -> str:
    sections = [_headline(status, style), _jobs(status.jobs, style), _outbox(status), _hub(status, style)]
    sections += _held(status.held)
    return "\n".join(section for section in sections if section)


def fitting(text: str, lines: int) -> str:
    """As much of it as a screen of so many lines takes."""
    rows = text.splitlines()
    return text if len(rows) <= lines else "\n".join([*rows[: max(0, lines - 1)], "..."])


def letters(found: Sequence[Letter]) -> str:
    if not found:
        return "no dead letters"
    rows = [("ID", "WHEN", "JOB", "REASON")]
    rows += [(str(one.letter_id), _when(one.at), printable(one.job_id), printable(one.reason)) for one in found]
    more = ["... the oldest only; `sbcctl status` has their number"] if len(found) >= MAX_LETTERS else []
    return "\n".join([*_table(rows), *more])


def letter(one: Letter) -> str:
    head = f"{one.letter_id}  {_when(one.at)}  job {printable(one.job_id)}  seq {one.seq}"
    body = "\n".join(printable(one.body[start : start + 500]) for start in range(0, len(one.body), 500))
    return f"{head}\nreason: {printable(one.reason)}\n{body}"


def changed(count: int, done: str) -> str:
    return f"{counted(count, 'dead letter')} {done}"


def _headline(status: Status, style: Style) -> str:
    found = troubles(status)
    mark = style.alarm if found else style.strong
    verdict = "; ".join(found) if found else f"all is well, {counted(len(status.jobs), 'job')}"
    return f"{mark}sbc-daemon {printable(status.version)} (pid {status.pid}): {verdict}{style.off}"


def _jobs(jobs: Sequence[JobState], style: Style) -> str:
    """A line each, and one with the figures for those that run; what has ended stands last."""
    running = [job for job in jobs if job.status not in FINAL]
    ended = [job for job in jobs if job.status in FINAL]
    shown = [*running, *ended[:ENDED_LISTED]]
    if not shown:
        return ""
    table = _table([_COLUMNS, *map(_job, shown)])
    lines = [table[0]]
    for job, line in zip(shown, table[1:], strict=True):
        lines.append(f"{style.alarm}{line}{style.off}" if job.contradicted else line)
        if (job.status not in FINAL or job.waiting) and (figures := list(_figures(job))):
            lines.append("  " + "  ".join(figures))
    if len(ended) > ENDED_LISTED:
        lines.append(f"... and {counted(len(ended) - ENDED_LISTED, 'job')} that ended before")
    return "\n".join(lines)


def _job(job: JobState) -> tuple[str, ...]:
    mark = "! " if job.contradicted else ""
    return (
        printable(job.job_id),
        printable(job.status),
        printable(job.current_phase or "-"),
        _producer(job),
        mark + printable(job.hub_status or "-"),
    )


def _producer(job: JobState) -> str:
    if not job.pids:
        return "attached" if job.attached else "-"
    more = f" +{len(job.pids) - 1}" if len(job.pids) > 1 else ""
    return f"pid {job.pids[0]}{more}"


def _figures(job: JobState) -> Iterator[str]:
    if job.progress_percent is not None:
        yield f"{_bar(job.progress_percent)} {job.progress_percent:5.1f} %"
    if job.bytes_transferred is not None:
        total = f" of {size(job.total_bytes)}" if job.total_bytes else ""
        yield size(job.bytes_transferred) + total
    if job.status not in FINAL:
        if job.transfer_speed_bps is not None:
            yield f"{size(job.transfer_speed_bps)}/s"
        if job.eta_seconds is not None:
            yield f"{duration(job.eta_seconds)} left"
        if job.idle_seconds is not None and job.idle_seconds >= 60:
            yield f"quiet for {duration(job.idle_seconds)}"
    if job.waiting:
        yield "waiting for the hub"


def _bar(percent: float) -> str:
    """Full only at the end: 99.9 % is not all of it."""
    filled = min(BAR_CELLS, max(0, int(percent * BAR_CELLS / 100)))
    return f"[{'#' * filled}{'-' * (BAR_CELLS - filled)}]"


def _outbox(status: Status) -> str:
    box = status.outbox
    waiting = f"{counted(box.states, 'state')}, {box.progress} progress, {counted(box.samples, 'sample')} waiting"
    oldest = "" if box.oldest_seconds is None else f", oldest {duration(box.oldest_seconds)}"
    share = f" of {size(box.max_bytes)} ({100 * box.bytes_used / box.max_bytes:.0f} %)" if box.max_bytes else ""
    lines = [f"outbox  {waiting}{oldest}", f"disk    {size(box.bytes_used)}{share} in use"]
    if box.dead_letters:
        lines.append(f"letters {counted(box.dead_letters, 'dead letter')}: sbcctl dead-letters list")
    return "\n".join(lines)


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
    return printable(lanes[0].job_id) if len(lanes) == 1 else counted(len(lanes), "job")


def _hub(status: Status, style: Style) -> str:
    hub = status.hub
    link = {"up": "up", "down": f"{style.alarm}down{style.off}", "unknown": "not tried yet"}[hub.link]
    instead = f", in place of {printable(hub.first_url)}" if hub.first_url not in (None, hub.url) else ""
    lines = [f"hub     {printable(hub.url)} {link}{_since(hub.since_seconds)}{instead}"]
    if hub.last_answer:
        ago = "" if hub.last_answer_seconds is None else f", {duration(hub.last_answer_seconds)} ago"
        lines.append(f"answer  {printable(hub.last_answer)}{ago}")
    if hub.last_error and hub.last_error != hub.last_answer:
        lines.append(f"error   {printable(hub.last_error)}")
    return "\n".join(lines)


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """One line a row. A first column that is too wide for the others stands out alone."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    if rows[0][0] == _COLUMNS[0]:
        widths[0] = min(widths[0], JOB_COLUMN)
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _since(seconds: float | None) -> str:
    return "" if seconds is None else f" for {duration(seconds)}"


def _when(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
