"""When a job is worth a message. Pure: one function of what is remembered, what would be said, and the time.

A message is sent when any of these holds; the first that does is the reason:
- end, first line, error, status, phase, disk status: a change of state, always and at once;
- milestone: progress is so many points above the last sent;
- interval: so many seconds since the last message, and the producer said something since;
- heartbeat: the same time, and an attached producer lives.
"""

from typing import Literal

from msgspec import UNSET

from sbc_daemon.config import CadenceSettings
from sbc_daemon.job_memory import JobMemory, Sent
from telemetry_common.contract import FINAL, Update

Reason = Literal["end", "first line", "error", "status", "phase", "disk status", "milestone", "interval", "heartbeat"]
STATE_CHANGES: frozenset[Reason] = frozenset({"end", "first line", "error", "status", "phase", "disk status"})
"""The reasons whose message may never be lost; the others are replaced by the next."""


def reason_to_send(memory: JobMemory, snapshot: Update, now: float, rules: CadenceSettings) -> Reason | None:
    """Why `snapshot` is to be sent at `now` (monotonic seconds), or None. After the end there is nothing to say."""
    sent = memory.state.sent
    if sent is not None and sent.status in FINAL:
        return None
    if snapshot.status in FINAL:
        return "end"
    if sent is None:
        return "first line"
    return _state_change(sent, snapshot) or _milestone(sent, snapshot, rules) or _interval(memory, now, rules)


def due_at(memory: JobMemory, rules: CadenceSettings) -> float | None:
    """When a value that had to wait, or the next heartbeat, is to be sent; None when only a line can bring news."""
    ended = memory.state.sent is not None and memory.state.sent.status in FINAL
    if ended or not (memory.state.news or memory.attached):
        return None
    return memory.sent_at + rules.interval_seconds


def _state_change(sent: Sent, snapshot: Update) -> Reason | None:
    if snapshot.error and not sent.error:
        return "error"
    if snapshot.status != sent.status:
        return "status"
    if snapshot.current_phase is not UNSET and snapshot.current_phase != sent.phase:
        return "phase"
    if snapshot.disks is UNSET:
        return None
    said = {disk.disk_index: disk.status for disk in snapshot.disks if disk.status is not UNSET}
    return "disk status" if said != sent.disks else None


def _milestone(sent: Sent, snapshot: Update, rules: CadenceSettings) -> Reason | None:
    if snapshot.progress_percent is UNSET or snapshot.progress_percent < sent.percent + rules.milestone_points:
        return None
    return "milestone"


def _interval(memory: JobMemory, now: float, rules: CadenceSettings) -> Reason | None:
    # The same sum as in due_at: a timer that rings at that time must find the time come.
    if now < memory.sent_at + rules.interval_seconds:
        return None
    if memory.state.news:
        return "interval"
    return "heartbeat" if memory.attached else None
