"""What `sbcctl doctor` makes of what the running daemon says of itself. Pure."""

from collections.abc import Iterator

from sbc_daemon.config import SidecarSettings
from sbc_daemon.doctor_finding import Finding
from sbc_daemon.status import HubState, OutboxState, Status
from telemetry_common.text import counted, duration, size

OLD_SECONDS = 900.0
"""A message that has waited for so long waits for somebody."""
FULL_SHARE = 0.8
"""Of the cap, beyond which new jobs find no room."""
_RESTART = "systemctl restart sbc-daemon"
NOT_LET_IN = (401, 403)


def daemon(status: Status, sidecar: SidecarSettings, version: str) -> Iterator[Finding]:
    """`sidecar` is the configuration as it stands now, `version` sbcctl's own."""
    words = f"sbc-daemon {status.version} (pid {status.pid}) answers"
    if status.version != version:
        yield Finding("warning", "daemon", f"{words}, and sbcctl is {version}", _RESTART)
    elif status.hub.first_url not in (None, sidecar.hub.url):
        yield Finding("warning", "daemon", f"{words}, and runs with another hub.url ({status.hub.first_url})", _RESTART)
    else:
        yield Finding("ok", "daemon", words)
    yield _link(status.hub)
    yield _outbox(status.outbox)
    yield from _troubles(status)


def _link(hub: HubState) -> Finding:
    since = "" if hub.since_seconds is None else f" for {duration(hub.since_seconds)}"
    if hub.link == "unknown":
        return Finding("unknown", "link", "the daemon has had nothing to send to the hub yet")
    if hub.link == "down":
        cure = "see `hub` below; if that is fine: does IPAddressAllow= of sbc-daemon.service have its address?"
        return Finding("fail", "link", f"the daemon has not reached the hub{since}: {hub.last_error}", cure)
    if hub.first_url not in (None, hub.url):
        words = f"the daemon uses {hub.url}{since} in place of {hub.first_url}"
        return Finding("warning", "link", words, "see `hub` below")
    ago = "" if hub.last_answer_seconds is None else f", last heard {duration(hub.last_answer_seconds)} ago"
    return Finding("ok", "link", f"the daemon reaches {hub.url}{since}{ago}")


def _outbox(box: OutboxState) -> Finding:
    count = box.states + box.progress + box.samples
    share = box.bytes_used / box.max_bytes if box.max_bytes else 0.0
    words = f"{count} waiting, {size(box.bytes_used)} of {size(box.max_bytes)} ({100 * share:.0f} %)"
    if box.in_memory:
        cure = "make room on the disk, or raise outbox.max_bytes"
        return Finding("fail", "outbox", f"{words}; {counted(box.in_memory, 'job')} without room on the disk", cure)
    if share >= FULL_SHARE:
        return Finding("warning", "outbox", f"{words}: new jobs are refused", "mend the hub, or raise outbox.max_bytes")
    if box.oldest_seconds is not None and box.oldest_seconds >= OLD_SECONDS:
        words += f", the oldest for {duration(box.oldest_seconds)}"
        return Finding("warning", "outbox", words, "`sbcctl status` says what holds it")
    return Finding("ok", "outbox", words)


def _troubles(status: Status) -> Iterator[Finding]:
    if status.outbox.moved_aside:
        words = f"outboxes that could not be used were moved aside since the start: {status.outbox.moved_aside}"
        yield Finding("warning", "damage", words, "the journal has why: a newer version's, or is the disk not sound?")
    if held := len(status.held):
        words = f"the hub does not take the messages of {counted(held, 'job')}: {status.held[0].reason}"
        yield Finding("warning", "held", words, "`sbcctl status` has them all")
    if letters := status.outbox.dead_letters:
        yield Finding("warning", "letters", counted(letters, "dead letter"), "sbcctl dead-letters list")
    for job in status.jobs:
        if job.contradicted:
            words = f"{job.job_id} is {job.status} here, and {job.hub_status} on the hub"
            yield Finding("warning", "job", words, "who ended it there? stop its backup, or start a new job")


def token_seen(status: Status | None) -> bool | None:
    """Whether the hub lets the daemon in, as far as the daemon has learnt; None where it has not."""
    if status is None:
        return None
    if any(lane.status in NOT_LET_IN for lane in status.held):
        return False
    return True if status.hub.link == "up" and status.hub.last_answer == "204" else None
