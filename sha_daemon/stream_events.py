"""What a subscriber of the stream reads, as text: Server-Sent Events. Pure.

    reset   what it knows no longer holds; the jobs follow anew
    job     one job as it is now, in the shape of every other answer
    gone    a job whose row was deleted
    ready   all live jobs have been told; from here on, changes

An event's id is the recording's epoch and the event's number. The jobs of a snapshot have none: whoever is cut off in
the middle of it has nothing to resume from, and begins anew.
"""

import re
from typing import Literal

import msgspec

from sha_daemon.stream_ring import Key

MEDIA_TYPE = "text/event-stream"
Reason = Literal["epoch", "gap"]
"""Why a reset: the hub does not know this epoch (any more); it no longer has all that came after the event."""
_ID = re.compile(r"([a-z0-9]{1,32})-([0-9]{1,15})")


def event(name: str, data: bytes, event_id: str = "") -> bytes:
    """`data` is JSON, which has no line breaks of its own."""
    id_line = f"id: {event_id}\n" if event_id else ""
    return f"{id_line}event: {name}\ndata: ".encode() + data + b"\n\n"


def gone(key: Key, event_id: str) -> bytes:
    job_type, job_id = key
    return event("gone", msgspec.json.encode({"job_id": job_id, "job_type": job_type}), event_id)


def reset(reason: Reason) -> bytes:
    return event("reset", msgspec.json.encode({"reason": reason}))


def ready(jobs: int, event_id: str) -> bytes:
    return event("ready", msgspec.json.encode({"jobs": jobs}), event_id)


def retry(milliseconds: int) -> bytes:
    """How long a browser waits before it comes again."""
    return f"retry: {milliseconds}\n\n".encode()


def keep_alive(event_id: str) -> bytes:
    """No event, yet it moves the place to resume from: a reader of one quiet job would else lose its own."""
    return f":\nid: {event_id}\n\n".encode()


def id_of(epoch: str, number: int) -> str:
    return f"{epoch}-{number}"


def place(last_event_id: str) -> tuple[str, int] | None:
    """Epoch and number; None for what is no id of any hub."""
    found = _ID.fullmatch(last_event_id)
    return (found[1], int(found[2])) if found else None
