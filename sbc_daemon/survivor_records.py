"""What is kept in the outbox of each descriptor that outlives the daemon: values only."""

from typing import TypeVar

import msgspec
from msgspec import Struct, field

from telemetry_common.contract import AttachedDisks

T = TypeVar("T")


class ConnectionRecord(Struct, omit_defaults=True):
    """One producer's connection: the job it named last, the shares it answers for (None: the whole job), and `half`,
    the beginning of a line that has been taken from the kernel already."""

    job_id: str | None = None
    shares: dict[str, AttachedDisks | None] = field(default_factory=dict)
    half: bytes = b""


class LinkRecord(Struct, omit_defaults=True):
    """A process answers for a job, or for its share of it. `lasting`: whatever happens to connections."""

    share: AttachedDisks | None = None
    lasting: bool = False


class ProcessRecord(Struct, omit_defaults=True):
    """One attached process, and what it answers for."""

    pid: int
    links: dict[str, LinkRecord] = field(default_factory=dict)


encode = msgspec.json.Encoder().encode


def decoded(body: bytes | None, kind: type[T]) -> T | None:
    """The record; None where there is none, or none that can be read."""
    try:
        return None if body is None else msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
