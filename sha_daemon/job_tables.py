"""Jobs as text for a terminal. Pure; everything that came from elsewhere is made printable first."""

from collections.abc import Sequence

from sha_daemon.hub_client import ShownDisk, ShownJob
from telemetry_common.text import duration, printable, size

_HEADS = ("JOB", "VM", "STATUS", "PHASE", "PROGRESS", "BYTES", "SPEED", "ETA", "HEARD")
_BAR = 12
_WIDEST = 40


def listing(jobs: Sequence[ShownJob]) -> str:
    """One line a job, under heads."""
    return table([_HEADS, *(_line(job) for job in jobs)])


def _line(job: ShownJob) -> tuple[str, ...]:
    running = job.status == "running"
    return (
        job.job_id,
        job.vm_name,
        job.status,
        job.current_phase,
        bar(job.progress_percent),
        amount(job.bytes_transferred, job.total_bytes),
        f"{size(job.transfer_speed_bps)}/s" if running else "-",
        duration(job.eta_seconds) if running and job.eta_seconds else "-",
        heard(job),
    )


def table(lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest entry, two blanks between, no blanks at the ends of lines."""
    safe = [[_short(printable(cell)) for cell in line] for line in lines]
    widths = [max(len(line[column]) for line in safe) for column in range(len(safe[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in safe
    )


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."


def bar(percent: float) -> str:
    """`[######------]  50.0 %`; full only at 100."""
    within = min(100.0, max(0.0, percent))
    full = int(within / 100 * _BAR)
    return f"[{'#' * full}{'-' * (_BAR - full)}] {within:5.1f} %"


def amount(done: int, total: int) -> str:
    return f"{size(done)} of {size(total)}" if total else size(done)


def heard(job: ShownJob) -> str:
    """How long ago the job was last heard, and what the hub makes of it."""
    if job.seconds_since_heard is None:
        return "never" if job.status == "running" else "-"
    mark = " STALLED" if job.stalled else " silent" if job.silent else " idle" if job.idle else ""
    return f"{duration(job.seconds_since_heard)} ago{mark}"


def detail(job: ShownJob) -> str:
    """All there is to say of one job, its disks below."""
    facts = [(name, value) for name, value in _facts(job) if value]
    width = max(len(name) for name, _ in facts)
    lines = [f"{name.ljust(width)}  {printable(value)}" for name, value in facts]
    if job.disks:
        lines += ["", table([("DISK", "STATUS", "PROGRESS", "BYTES", "COMPLETED"), *map(_disk, job.disks)])]
    return "\n".join(lines)


def _facts(job: ShownJob) -> list[tuple[str, str | None]]:
    running = job.status == "running"
    return [
        ("job", job.job_id),
        ("vm", job.vm_name),
        ("type", job.backup_type),
        ("status", job.status),
        ("phase", job.current_phase),
        ("progress", bar(job.progress_percent)),
        ("bytes", amount(job.bytes_transferred, job.total_bytes)),
        ("speed", f"{size(job.transfer_speed_bps)}/s" if running else None),
        ("eta", duration(job.eta_seconds) if running and job.eta_seconds else None),
        ("error", job.error_message),
        ("created", job.created_at),
        ("started", job.started_at),
        ("completed", job.completed_at),
        ("heard", heard(job)),
        ("idle", duration(job.idle_seconds) if running and job.idle_seconds is not None else None),
    ]


def _disk(disk: ShownDisk) -> tuple[str, ...]:
    moved = amount(disk.bytes_transferred, disk.total_bytes)
    return (str(disk.disk_index), disk.status, bar(disk.progress_percent), moved, disk.completed_at or "-")
