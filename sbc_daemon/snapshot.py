"""From what is remembered of a job to the full message for the hub. Pure.

What the producer left out is derived: the job's figures from its disks', percent from bytes and total, the speed from
the last seconds, the ETA from both. Whatever cannot be known yet is left out.
"""

from typing import TypeVar

from msgspec import UNSET, UnsetType

from sbc_daemon.job_memory import GREATEST_AMOUNT, DiskState, JobFacts, JobMemory, Sent
from sbc_daemon.speed import UNKNOWN, WINDOW_SECONDS, Pace, eta
from telemetry_common.contract import MAX_ETA_SECONDS, DiskReport, Update, percent

T = TypeVar("T")

ALMOST = 99.99
"""The most that is shown before the end: tools say 100 % and then fail."""


def snapshot(memory: JobMemory, now: float) -> Update:
    """All there is to say of the job at `now` (monotonic seconds)."""
    state = memory.state
    status = state.status or "running"
    count, total = memory.bytes_so_far(), _total(state)
    pace = _pace(memory, now, count)
    return Update(
        job_id=state.job_id,
        job_type=_or_unset(state.job_type),
        status=status,
        current_phase=_or_unset(state.phase),
        bytes_transferred=_or_unset(count),
        total_bytes=total or UNSET,
        transfer_speed_bps=_or_unset(pace.rate),
        eta_seconds=_eta(memory, now, count, total, pace),
        progress_percent=_percent(count, total, state.percent, done=status == "completed"),
        disks=tuple(_disk(index, disk) for index, disk in sorted(state.disks.items())) or UNSET,
        # A failed disk's error waits for the job's end: the hub takes any error for it.
        error=state.error if state.error is not None and state.ended else UNSET,
        timestamp=_or_unset(state.timestamp),
        idle_seconds=round(max(0.0, now - memory.heard_at), 3) if memory.attached else UNSET,
    )


def sent_mark(state: JobFacts, update: Update) -> Sent:
    """What the cadence compares the next snapshot with, once `update` is on its way.

    The percentage is the last one that was sent, also where it fell because the total has grown.
    """
    before = state.sent.percent if state.sent else 0.0
    percent = before if update.progress_percent is UNSET else update.progress_percent
    disks = {index: disk.status for index, disk in state.disks.items() if disk.status is not None}
    return Sent(update.status, state.phase, disks, percent, bool(update.error))


def ended_facts(facts: JobFacts, update: Update) -> JobFacts:
    """What is kept of a job whose end `update` has told: that it is over, and how, for whoever asks. Not its disks and
    its error, which may be long: thousands of ended jobs are remembered, in memory and in the outbox."""
    return JobFacts(
        job_id=facts.job_id,
        status=facts.status,
        phase=facts.phase,
        bytes_transferred=_or_none(update.bytes_transferred),
        total_bytes=_or_none(update.total_bytes) or 0,
        percent=_or_none(update.progress_percent),
        sent=Sent(update.status, facts.phase, {}, 0.0, bool(update.error)),
        heard=facts.heard,
    )


def _total(state: JobFacts) -> int:
    """The job's own total, or the sum over its disks once every one of them is known; 0 while it is not."""
    totals = [disk.total_bytes for disk in state.disks.values()]
    if state.total_bytes or not totals or not all(totals) or len(totals) < (state.of or 0):
        return state.total_bytes
    return min(GREATEST_AMOUNT, sum(totals))


def _is_fresh(memory: JobMemory, now: float) -> bool:
    """Whether what the producer said of its own pace still counts: a stall is often a producer that says nothing."""
    return now - memory.heard_at <= WINDOW_SECONDS


def _pace(memory: JobMemory, now: float, count: int | None) -> Pace:
    own = memory.state.speed_bps
    if own is not None and _is_fresh(memory, now):
        return Pace(own, steady=True)
    return UNKNOWN if count is None else memory.speed.pace(now, count, memory.heard_at)


def _eta(memory: JobMemory, now: float, count: int | None, total: int, pace: Pace) -> int | UnsetType:
    state = memory.state
    if state.status == "completed":
        return 0
    if state.eta_seconds is not None and _is_fresh(memory, now):
        return min(state.eta_seconds, MAX_ETA_SECONDS)
    seconds = None if count is None else eta(count, total, pace.rate if pace.steady else None)
    return UNSET if seconds is None else min(seconds, MAX_ETA_SECONDS)


def _percent(count: int | None, total: int, hint: float | None, *, done: bool) -> float | UnsetType:
    """By bytes where both are known; a producer's own figure is a hint. 100 only at the end."""
    if done:
        return 100.0
    figure = UNSET if count is None else percent(count, total)
    if figure is UNSET:
        figure = _or_unset(hint)
    return figure if figure is UNSET else min(figure, ALMOST)


def _disk(index: int, disk: DiskState) -> DiskReport:
    return DiskReport(
        disk_index=index,
        status=_or_unset(disk.status),
        bytes_transferred=_or_unset(disk.bytes_transferred),
        total_bytes=disk.total_bytes or UNSET,
        progress_percent=_percent(
            disk.bytes_transferred, disk.total_bytes, disk.percent, done=disk.status == "completed"
        ),
    )


def _or_unset(value: T | None) -> T | UnsetType:
    return UNSET if value is None else value


def _or_none(value: T | UnsetType) -> T | None:
    return None if value is UNSET else value
