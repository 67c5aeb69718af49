"""What the operator sees of a running sidecar: its jobs, outbox and hub link, gathered into one `Status`."""

from msgspec import UNSET

from sbc_daemon.job_memory import JobMemory
from sbc_daemon.outbox import Figures
from sbc_daemon.snapshot import snapshot
from sbc_daemon.status import JobState, OutboxState

ENDED_SHOWN = 50
"""Of the jobs that ended, so many of the latest are shown."""


def outbox_state(figures: Figures, wall: float, max_bytes: int) -> OutboxState:
    oldest = figures.oldest_wall
    return OutboxState(
        states=figures.states,
        progress=figures.progress,
        samples=figures.samples,
        dead_letters=figures.dead_letters,
        bytes_used=figures.bytes_used,
        max_bytes=max_bytes,
        oldest_seconds=None if oldest is None else max(0.0, wall - oldest),
        in_memory=figures.in_memory,
        moved_aside=figures.moved_aside,
    )


def job_state(
    memory: JobMemory, now: float, *, waiting: bool, hub_status: str | None, pids: tuple[int, ...] = ()
) -> JobState:
    """The job as the next message would tell it."""
    update = snapshot(memory, now)
    return JobState(
        job_id=memory.state.job_id,
        status=update.status,
        current_phase=None if update.current_phase is UNSET else update.current_phase,
        progress_percent=None if update.progress_percent is UNSET else update.progress_percent,
        bytes_transferred=None if update.bytes_transferred is UNSET else update.bytes_transferred,
        total_bytes=None if update.total_bytes is UNSET else update.total_bytes,
        transfer_speed_bps=None if update.transfer_speed_bps is UNSET else update.transfer_speed_bps,
        eta_seconds=None if update.eta_seconds is UNSET else update.eta_seconds,
        idle_seconds=None if update.idle_seconds is UNSET else update.idle_seconds,
        attached=memory.attached,
        pids=pids,
        waiting=waiting,
        hub_status=hub_status,
    )
