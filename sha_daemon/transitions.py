"""What an update does to a job: the hub's rules, and nothing but the rules. No I/O, no clock, no SQL.

    stored status           the update says                       result
    pending                 running                               running, started
    running                 pending                               stays running, the figures apply
    pending, running        completed                             completed; bytes are at least the sum over its disks
    pending, running        failed, or an error beside any        failed; disks not yet completed fail with it
                            status but cancelled
    pending, running        cancelled                             cancelled; disks not yet completed fail with it
    failed by the watchdog  anything newer                        revived: applied as to a running job
    otherwise ended         anything                              unchanged ("final")

Nothing goes backwards: bytes only grow, a total is replaced by any non-zero value, percent falls only where the total
grew. Absent means unchanged. With `seq`, only a greater one applies.
"""

from typing import Literal, TypeVar

from msgspec import UNSET, Struct, UnsetType, structs

from sha_daemon.records import Disk, Job, Sample, StoredDiskStatus, StoredStatus
from telemetry_common.contract import FINAL, MAX_AMOUNT, MAX_DISKS, MAX_ETA_SECONDS, DiskReport, Update

T = TypeVar("T")
Result = Literal["applied", "duplicate", "stale", "final"]


class Receipt(Struct, frozen=True):
    """When and how the hub heard: Unix seconds of its own clock, and the listening clock's reading."""

    at: float
    heard_us: int


class Decision(Struct, frozen=True, kw_only=True):
    """`job` is what to store (the same object where nothing changes), `disks` those of its disks that changed.

    `revived_after` is the length in seconds of the silence that a wrong verdict of the watchdog was about;
    `disks_beyond` are the indices of disks that were passed over because the job has as many as one can have.
    """

    result: Result
    job: Job
    disks: tuple[Disk, ...] = ()
    sample: Sample | None = None
    revived_after: float | None = None
    disks_beyond: tuple[int, ...] = ()


def decide(job: Job, update: Update, receipt: Receipt) -> Decision:
    """What `update` does to `job`, of which no rule knows more than is passed in here."""
    if update.seq is not UNSET and job.seq is not None and update.seq <= job.seq:
        return _not_newer(job, update, receipt)
    if job.status in FINAL and not failed_by_watchdog(job):
        return Decision(result="final", job=job)
    return _apply(job, update, receipt)


def failed_by_watchdog(job: Job) -> bool:
    """The verdict stands as the watchdog left it: nobody has touched mark, status or message since."""
    return (
        job.status == "failed"
        and job.watchdog_failed_at is not None
        and job.watchdog_message is not None
        and job.error_message == job.watchdog_message
    )


def event_time(update: Update, receipt: Receipt) -> float:
    """When it was true: the hub's receipt less the age by the sender's monotonic clock. Never before 1970."""
    age = 0.0 if update.age_seconds is UNSET else update.age_seconds
    return max(1.0, receipt.at - age)


def _not_newer(job: Job, update: Update, receipt: Receipt) -> Decision:
    """A repeated or overtaken message: it is heard, and fills a gap in the history."""
    same = update.seq == job.seq
    if job.status in FINAL:
        heard = job
        result: Result = "duplicate" if same else "stale" if failed_by_watchdog(job) else "final"
    else:
        heard = structs.replace(job, last_telemetry_at=receipt.at, heard_us=receipt.heard_us)
        result = "duplicate" if same else "stale"
    return Decision(result=result, job=heard, sample=_sample(_as_said(job, update), update, receipt))


def _apply(job: Job, update: Update, receipt: Receipt) -> Decision:
    revived = failed_by_watchdog(job)
    alive = _without_mark(job)
    disks, changed = _apply_disks(alive.disks, update, receipt)
    after = _apply_figures(alive, update, receipt)
    after = _apply_status(structs.replace(after, disks=disks), update, receipt)
    touched = changed | {new.disk_index for new, old in zip(after.disks, disks, strict=True) if new is not old}
    silence = receipt.at - (job.last_telemetry_at or receipt.at) if revived else None
    return Decision(
        result="applied",
        job=after,
        disks=tuple(disk for disk in after.disks if disk.disk_index in touched),
        sample=_sample(after, update, receipt),
        revived_after=silence,
        disks_beyond=_beyond(after, update),
    )


def _beyond(job: Job, update: Update) -> tuple[int, ...]:
    """The disks of `update` that `job` could not have."""
    if update.disks is UNSET or len(job.disks) < MAX_DISKS:
        return ()
    known = {disk.disk_index for disk in job.disks}
    return tuple(disk.disk_index for disk in update.disks if disk.disk_index not in known)


def _without_mark(job: Job) -> Job:
    """The verdict taken back. Where another program has set the job running again, only its traces are left to clear:
    a mark that stayed would make a later, reported failure look like the watchdog's.
    """
    if job.watchdog_failed_at is None and job.watchdog_message is None:
        return job
    return structs.replace(
        job,
        status="running" if failed_by_watchdog(job) else job.status,
        completed_at=None,
        error_message=None if job.error_message == job.watchdog_message else job.error_message,
        watchdog_failed_at=None,
        watchdog_message=None,
    )


def _apply_figures(job: Job, update: Update, receipt: Receipt) -> Job:
    total = update.total_bytes or job.total_bytes
    says_nothing = _says_nothing(update)
    return structs.replace(
        job,
        current_phase=_or_stored(update.current_phase, job.current_phase),
        bytes_transferred=max(job.bytes_transferred, update.bytes_transferred or 0),
        total_bytes=total,
        transfer_speed_bps=_unless_empty(update.transfer_speed_bps, job.transfer_speed_bps, says_nothing),
        eta_seconds=min(MAX_ETA_SECONDS, _unless_empty(update.eta_seconds, job.eta_seconds, says_nothing)),
        progress_percent=_percent(update.progress_percent, job.progress_percent, grew=total > job.total_bytes),
        seq=_or_stored(update.seq, job.seq),
        idle_seconds=None if update.idle_seconds is UNSET else int(min(update.idle_seconds, MAX_ETA_SECONDS)),
        last_telemetry_at=receipt.at,
        heard_us=receipt.heard_us,
    )


def _says_nothing(update: Update) -> bool:
    """The senders already in the field put zeros into every figure of a status message: those are no news."""
    return not (update.bytes_transferred or update.total_bytes or update.progress_percent)


def _unless_empty(reported: int | UnsetType, stored: int, says_nothing: bool) -> int:
    """A speed or ETA of 0 is news (the transfer stands still), but not in a message that has no figures at all."""
    if reported is UNSET or (says_nothing and reported == 0):
        return stored
    return reported


def _percent(reported: float | UnsetType, stored: float, *, grew: bool) -> float:
    if reported is UNSET:
        return stored
    percent = _two_decimals(reported)
    return percent if percent >= stored or grew else stored


def _two_decimals(percent: float) -> float:
    """At most 100, and less than that for anything less: rounding must not show an end."""
    return 100.0 if percent >= 100 else min(99.99, round(percent, 2))


def _or_stored(reported: T | UnsetType, stored: T) -> T:
    return stored if reported is UNSET else reported


def _apply_disks(stored: tuple[Disk, ...], update: Update, receipt: Receipt) -> tuple[tuple[Disk, ...], set[int]]:
    """All disks by index after the update, and the indices of those that changed.

    A job has no more than MAX_DISKS: with each update of it all of them are read.
    """
    if update.disks is UNSET or not update.disks:
        return stored, set()
    disks = {disk.disk_index: disk for disk in stored}
    changed: set[int] = set()
    for report in update.disks:
        before = disks.get(report.disk_index)
        if before is None and len(disks) >= MAX_DISKS:
            continue
        after = _apply_disk(before or Disk(disk_index=report.disk_index), report, event_time(update, receipt))
        if after != before:
            disks[report.disk_index] = after
            changed.add(report.disk_index)
    return tuple(disks[index] for index in sorted(disks)), changed


def _apply_disk(disk: Disk, report: DiskReport, at: float) -> Disk:
    total = report.total_bytes or disk.total_bytes
    moved = structs.replace(
        disk,
        bytes_transferred=max(disk.bytes_transferred, report.bytes_transferred or 0),
        total_bytes=total,
        progress_percent=_percent(report.progress_percent, disk.progress_percent, grew=total > disk.total_bytes),
    )
    status = _disk_status(disk.status, report)
    return moved if status == disk.status else _end_disk(structs.replace(moved, status=status), at)


def _disk_status(stored: StoredDiskStatus, report: DiskReport) -> StoredDiskStatus:
    """A completed disk stays so; a failed one may be tried again; nothing becomes pending again."""
    if report.status is UNSET or report.status == "pending" or stored == "completed":
        return stored
    return "running" if report.status == "transferring" else report.status


def _end_disk(disk: Disk, at: float) -> Disk:
    if disk.status == "completed":
        return structs.replace(disk, completed_at=at, progress_percent=100.0)
    return structs.replace(disk, completed_at=at if disk.status == "failed" else None)


def _apply_status(job: Job, update: Update, receipt: Receipt) -> Job:
    at = event_time(update, receipt)
    says = _said_status(update)
    if says == "running":
        return structs.replace(job, status="running", started_at=at if job.started_at is None else job.started_at)
    if says == "completed":
        return _complete(job, at)
    if says in FINAL:
        return _fail(job, says, update, at)
    return job


def _said_status(update: Update) -> StoredStatus:
    """An error beside any status but cancelled means failed, whatever that status says."""
    if update.error not in (None, UNSET) and update.status != "cancelled":
        return "failed"
    return update.status


def _complete(job: Job, at: float) -> Job:
    """The sum over the disks repairs a job whose own bytes were never reported; a greater figure stands."""
    disks = tuple(_complete_disk(disk, at) for disk in job.disks)
    moved = max(job.bytes_transferred, min(MAX_AMOUNT, sum(disk.bytes_transferred for disk in disks)))
    return structs.replace(
        job,
        status="completed",
        completed_at=at,
        progress_percent=100.0,
        eta_seconds=0,
        bytes_transferred=moved,
        disks=disks,
    )


def _complete_disk(disk: Disk, at: float) -> Disk:
    """One that is completed already keeps its time, but shows 100 %: an engine may have written only its bytes."""
    if disk.status == "completed":
        return disk if disk.progress_percent == 100 else structs.replace(disk, progress_percent=100.0)
    return _end_disk(structs.replace(disk, status="completed"), at)


def _fail(job: Job, status: StoredStatus, update: Update, at: float) -> Job:
    disks = tuple(
        disk if disk.status in ("completed", "failed") else _end_disk(structs.replace(disk, status="failed"), at)
        for disk in job.disks
    )
    message = update.error.text() if update.error not in (None, UNSET) else job.error_message
    return structs.replace(job, status=status, completed_at=at, error_message=message, disks=disks)


def _as_said(job: Job, update: Update) -> Job:
    """What an overtaken message said of the job at its time, filled up with what is stored."""
    says_nothing = _says_nothing(update)
    percent = job.progress_percent
    if update.progress_percent is not UNSET and not says_nothing:
        percent = _two_decimals(update.progress_percent)
    return structs.replace(
        job,
        status=_said_status(update),
        current_phase=_or_stored(update.current_phase, job.current_phase),
        bytes_transferred=update.bytes_transferred or job.bytes_transferred,
        total_bytes=update.total_bytes or job.total_bytes,
        transfer_speed_bps=_unless_empty(update.transfer_speed_bps, job.transfer_speed_bps, says_nothing),
        progress_percent=percent,
    )


def _sample(job: Job, update: Update, receipt: Receipt) -> Sample:
    """A point for the charts: `job` at the time of the event."""
    return Sample(
        job_id=job.job_id,
        at=event_time(update, receipt),
        status=job.status,
        current_phase=job.current_phase,
        bytes_transferred=job.bytes_transferred,
        total_bytes=job.total_bytes,
        transfer_speed_bps=job.transfer_speed_bps,
        progress_percent=job.progress_percent,
        seq=_or_stored(update.seq, None),
        producer_time=None if update.timestamp is UNSET else update.timestamp.isoformat(),
    )
