"""Where a page of the job list ends: opaque text for the client, a place in (created_at, id) for the database. Pure."""

import base64
import binascii
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from sha_daemon.records import JobView

_SECONDS = Annotated[int, Meta(ge=0, le=2**40)]


class Place(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last job of a page."""

    created_at: _SECONDS | None
    job_id: Annotated[str, Meta(max_length=64)]


def text(place: Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def end_of(view: JobView) -> str:
    """The cursor of a page whose last job this is."""
    created_at = None if view.created_at is None else int(view.created_at)
    return text(Place(created_at, view.job.job_id))


def place(cursor: str) -> Place:
    """The place that `text` wrote. ValueError for anything else."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        found = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=Place)
    except (binascii.Error, msgspec.MsgspecError, UnicodeError):
        raise ValueError("cannot use the cursor: it is not one that the hub gave out") from None
    return found
