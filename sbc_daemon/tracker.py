"""Merging lines into what is remembered of a job. Pure: no I/O, `now` is an argument.

- Absent means unchanged. Bytes never fall, of a job and of each disk; a total of 0 says nothing.
- A status never goes back (running stays running), and an end is the last word: a line after it is refused.
- A pace (speed, ETA) is as old as the bytes it came with: bytes without one make it derived again.
- An error without an end is an end: the hub takes it so, and both must agree.
- A producer that answers for some of a job's disks (its share) ends these disks when it ends. The job ends when all
  of them are final: completed, or failed with the first failure's error.
"""

from collections.abc import Collection, Iterable

from msgspec import UNSET

from sbc_daemon.job_memory import DiskState, JobFacts, JobMemory
from telemetry_common.contract import (
    FINAL,
    MAX_DISKS,
    AttachedDisks,
    DiskReport,
    DiskStatus,
    JobStatus,
    Line,
    ProgressLine,
)

MAX_JOB_TYPE = 50
"""Characters; what is longer is none that a hub knows, and twenty thousand jobs may be remembered."""
_FINAL_DISK = frozenset({"completed", "failed"})


class LineRefused(ValueError):
    """The line is valid but cannot be taken; the text says why and what to do, fit for the producer."""


class JobEnded(LineRefused):
    """The job has had its last word, `status`."""

    def __init__(self, job_id: str, status: JobStatus) -> None:
        super().__init__(f"cannot report on {job_id}: it has ended as {status}; a new run needs a new job_id")
        self.status = status


def merge(memory: JobMemory, line: Line, now: float, share: AttachedDisks | None = None) -> bool:
    """Take `line` into `memory`; True when it changed a state, which the cadence must see before the next line.

    `share` is what the line's producer answers for, None for the whole job. Raises LineRefused, and then nothing
    has changed.
    """
    state = memory.state
    if state.status in FINAL or share is not None or line.disks is not UNSET or line.job_type is not UNSET:
        _check(state, line, share)
    if now >= memory.speed.next_at:
        _sample(memory)
    state.news = True
    memory.heard_at = now
    return _merge_share(state, line, share) if share else _merge_job(state, line)


def merge_progress(memory: JobMemory, run: Iterable[ProgressLine], now: float) -> tuple[int, bool]:
    """`merge` of lines that only say how far the job is, one after the other: the same, in a fraction of the time.

    How many were taken, and whether the last of them changed a state: the run stops behind such a line. What needs to
    be looked at more closely is not taken: new disks, or a job that has no status, an end, or producers with shares.
    """
    state = memory.state
    if state.status is None or state.status in FINAL or state.of is not None:
        return 0, False
    next_at = memory.speed.next_at
    taken, changed = 0, False
    for said in run:
        if said.disks is not UNSET and not _knows_all(state, said.disks):
            break
        if now >= next_at:
            _sample(memory)
            next_at = memory.speed.next_at
        memory.heard_at = now
        if said.disks is not UNSET:
            changed = _merge_disks(state, said.disks)
        _merge_job_figures(state, said)
        taken += 1
        if changed:
            break
    if taken:
        state.news, state.timestamp = True, None
    return taken, changed


def _knows_all(state: JobFacts, disks: Collection[DiskReport]) -> bool:
    """They are named once each, and none is new."""
    indices = {disk.disk_index for disk in disks}
    return len(indices) == len(disks) and indices <= state.disks.keys()


def _check(state: JobFacts, line: Line, share: AttachedDisks | None) -> None:
    if state.status is not None and state.status in FINAL:
        raise JobEnded(state.job_id, state.status)
    if share is not None:
        if share.of > MAX_DISKS:
            raise LineRefused(f"cannot follow more than {MAX_DISKS} disks of {state.job_id}")
        if state.of is not None and state.of != share.of:
            raise LineRefused(f"cannot attach to {state.job_id}: it has {state.of} disks, not {share.of}")
        if len(set(share.disks)) > share.of:
            raise LineRefused(f"cannot attach to {state.job_id}: more disks are named than it has ({share.of})")
    if line.job_type is not UNSET and len(line.job_type) > MAX_JOB_TYPE:
        raise LineRefused(f"cannot use a `job_type` of more than {MAX_JOB_TYPE} characters")
    if line.disks is not UNSET and len(line.disks) + len(state.disks) > MAX_DISKS:
        known = len(state.disks.keys() | {disk.disk_index for disk in line.disks})
        if known > MAX_DISKS:
            raise LineRefused(f"cannot follow more than {MAX_DISKS} disks of {state.job_id}")


def _sample(memory: JobMemory) -> None:
    """What the line before has said, at its time."""
    count = memory.bytes_so_far()
    if count is not None:
        memory.speed.sample(memory.heard_at, count)


def _merge_job(state: JobFacts, line: Line) -> bool:
    """A line for the whole job."""
    _merge_job_figures(state, line)
    if _only_figures(line) and state.status is not None:
        state.timestamp = None
        return False
    changed = line.disks is not UNSET and _merge_disks(state, line.disks)
    changed |= _merge_words(state, line)
    ending = ending_of(line)
    if ending is not None:
        _end(state, ending)
    elif state.of is not None:
        _end_when_all_final(state)
    return changed or state.status in FINAL


def _merge_share(state: JobFacts, line: Line, share: AttachedDisks) -> bool:
    """A line of a producer that answers for some disks: its end is theirs, its figures are theirs."""
    state.of = share.of
    disks = list(line.disks) if line.disks is not UNSET else []
    if len(share.disks) == 1 and not any(disk.disk_index == share.disks[0] for disk in disks):
        disks.append(_as_disk(line, share.disks[0]))
    elif len(set(share.disks)) == share.of:
        _merge_job_figures(state, line)
    changed = _merge_disks(state, disks)
    changed |= _merge_words(state, line)
    ending = ending_of(line)
    if ending == "cancelled":
        _end(state, "cancelled")
    elif ending is not None:
        changed |= _end_disks(state, share.disks, "completed" if ending == "completed" else "failed")
    _end_when_all_final(state)
    return changed or state.status in FINAL


def _only_figures(line: Line) -> bool:
    """Most lines are; they take a short way."""
    return (
        line.disks is UNSET
        and line.status is UNSET
        and line.current_phase is UNSET
        and line.error is UNSET
        and line.timestamp is UNSET
        and line.job_type is UNSET
    )


def ending_of(line: Line) -> JobStatus | None:
    """The final status that the line stands for, if any. Cancelled keeps its error; any other error is a failure."""
    if line.status == "cancelled":
        return "cancelled"
    if line.error is not UNSET and line.error is not None:
        return "failed"
    return line.status if line.status is not UNSET and line.status in FINAL else None


def _merge_words(state: JobFacts, line: Line) -> bool:
    """Status short of an end, phase and error. True when one differs."""
    changed = False
    if line.error is not UNSET and line.error is not None and state.error is None:
        state.error = line.error
        changed = True
    if line.current_phase is not UNSET and line.current_phase != state.phase:
        state.phase = line.current_phase
        changed = True
    if state.status is None or (state.status == "pending" and line.status == "running"):
        state.status = "pending" if line.status == "pending" else "running"
        changed = True
    if line.job_type is not UNSET:
        state.job_type = line.job_type
    state.timestamp = None if line.timestamp is UNSET else line.timestamp
    return changed


def _merge_job_figures(state: JobFacts, line: Line | ProgressLine) -> None:
    count = line.bytes_transferred
    if count is not UNSET and (state.bytes_transferred is None or count > state.bytes_transferred):
        state.bytes_transferred = count
    if line.total_bytes is not UNSET and line.total_bytes:
        state.total_bytes = line.total_bytes
    if line.progress_percent is not UNSET:
        state.percent = line.progress_percent
    if line.transfer_speed_bps is not UNSET:
        state.speed_bps = line.transfer_speed_bps
    elif count is not UNSET:
        state.speed_bps = None
    if line.eta_seconds is not UNSET:
        state.eta_seconds = line.eta_seconds
    elif count is not UNSET:
        state.eta_seconds = None


def _as_disk(line: Line, index: int) -> DiskReport:
    """The figures of a producer of one disk, said of the job, are that disk's."""
    return DiskReport(
        disk_index=index,
        bytes_transferred=line.bytes_transferred,
        total_bytes=line.total_bytes,
        progress_percent=line.progress_percent,
    )


def _merge_disks(state: JobFacts, reports: Iterable[DiskReport]) -> bool:
    changed = False
    for report in reports:
        disk = state.disks.get(report.disk_index)
        if disk is None:
            disk = state.disks[report.disk_index] = DiskState()
        changed |= _merge_disk(disk, report)
    return changed


def _merge_disk(disk: DiskState, report: DiskReport) -> bool:
    count = report.bytes_transferred
    if count is not UNSET and (disk.bytes_transferred is None or count > disk.bytes_transferred):
        disk.bytes_transferred = count
    if report.total_bytes is not UNSET and report.total_bytes:
        disk.total_bytes = report.total_bytes
    if report.progress_percent is not UNSET:
        disk.percent = report.progress_percent
    status = report.status
    if status is UNSET:
        if disk.status is not None or not disk.bytes_transferred:
            return False
        status = "running"  # what moves bytes runs, also when nobody said so
    if disk.status == status or disk.status in _FINAL_DISK or (status == "pending" and disk.status is not None):
        return False
    disk.status = status
    return True


def _end_disks(state: JobFacts, indices: Iterable[int], ending: DiskStatus) -> bool:
    """Give the disks their end; one that has an end keeps it."""
    changed = False
    for index in indices:
        disk = state.disks.setdefault(index, DiskState())
        if disk.status not in _FINAL_DISK:
            disk.status = ending
            changed = True
    return changed


def _end(state: JobFacts, ending: JobStatus) -> None:
    """The job's end is also the end of the disks that had none."""
    state.status = ending
    _end_disks(state, list(state.disks), "completed" if ending == "completed" else "failed")


def _end_when_all_final(state: JobFacts) -> None:
    ends = [disk.status for disk in state.disks.values() if disk.status in _FINAL_DISK]
    if state.of is not None and len(ends) >= state.of:
        _end(state, "failed" if "failed" in ends else "completed")
