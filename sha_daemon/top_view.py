"""The live view of running jobs as text, line by line. Pure; everything that came from elsewhere is made printable."""

from collections.abc import Sequence

from msgspec import Struct

from sha_daemon.hub_client import HubHealth, ShownJob
from sha_daemon.job_tables import amount, bar, heard, table
from telemetry_common.text import counted, duration, printable, size

ENDED_SHOWN = 5
"""Of the jobs that ended while somebody looked on, the latest."""
_HEADS = ("JOB", "VM", "PHASE", "PROGRESS", "BYTES", "SPEED", "ETA", "HEARD")


class View(Struct, frozen=True, kw_only=True):
    """What the hub said last. `problem`: why it says nothing now, and the rest is `age_seconds` old."""

    hub: str
    clock: str
    health: HubHealth
    running: tuple[ShownJob, ...]
    ended: tuple[ShownJob, ...] = ()
    problem: str = ""
    age_seconds: float = 0.0


def frame(view: View, columns: int, rows: int) -> list[str]:
    """At most `rows` lines of at most `columns` characters: the hub, its running jobs, those that have just ended.

    Jobs that somebody should look at come first.
    """
    head = [_summary(view), *([_trouble(view)] if _trouble(view) else []), ""]
    foot = _ended(view.ended[:ENDED_SHOWN])
    room = max(1, rows - len(head) - len(foot) - 1)
    lines = [*head, *_running(view, room), *foot]
    return [line[:columns] for line in lines[:rows]]


def _summary(view: View) -> str:
    speed = sum(job.transfer_speed_bps for job in view.running)
    count = view.health.jobs.get("running", len(view.running))
    shown = f", the newest {len(view.running)} here" if count > len(view.running) else ""
    words = f"{counted(count, 'job')} running{shown}, {size(speed)}/s"
    silent = f", {view.health.silent} silent" if view.health.silent else ""
    return f"{view.clock}  hub {view.hub}: {words}{silent}"


def _trouble(view: View) -> str:
    if view.problem:
        return f"! {printable(view.problem)}; what is below is {duration(view.age_seconds)} old"
    if view.health.status != "ok":
        return f"! the hub is {printable(view.health.status)}: database {printable(view.health.database)}"
    return ""


def _running(view: View, room: int) -> list[str]:
    if not view.running:
        return ["no running jobs"]
    ordered = sorted(view.running, key=lambda job: not (job.stalled or job.silent))
    over = len(ordered) - room
    shown = ordered[: room - 1] if over > 0 else ordered
    lines = table([_HEADS, *map(_line, shown)]).split("\n")
    return [*lines, f"... and {len(ordered) - len(shown)} more"] if over > 0 else lines


def arrival(job: ShownJob) -> str:
    """When it will be there; not said of one that stands still, whose last arrival is still stored."""
    return duration(job.eta_seconds) if job.eta_seconds and job.transfer_speed_bps else "-"


def _line(job: ShownJob) -> tuple[str, ...]:
    return (
        job.job_id,
        job.vm_name,
        job.current_phase or "-",
        bar(job.progress_percent),
        amount(job.bytes_transferred, job.total_bytes),
        f"{size(job.transfer_speed_bps)}/s",
        arrival(job),
        heard(job),
    )


def _ended(jobs: Sequence[ShownJob]) -> list[str]:
    lines = [["ENDED", "VM", "STATUS", "BYTES", "ERROR"]]
    lines += [
        [job.job_id, job.vm_name, job.status, size(job.bytes_transferred), job.error_message or "-"] for job in jobs
    ]
    return ["", *table(lines).split("\n")] if jobs else []
