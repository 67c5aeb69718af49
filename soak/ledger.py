"""The producers' own account of what they said and what was acknowledged. Nothing in it comes from the daemons."""

from pathlib import Path

import msgspec
from msgspec import Struct, field


class End(Struct):
    status: str
    bytes_transferred: int
    error: str | None = None
    acknowledged: bool = False


class Book(Struct):
    """One job. `phases` in the order they were said; `said` is every (phase, bytes) that was ever written."""

    disks: int
    phases: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    said: set[tuple[str, int]] = field(default_factory=set)
    end: End | None = None


class Ledger(Struct):
    """`refused` are acks that were told `ok: false`, with the reason; `slowest_ack_seconds` spans a sidecar's death."""

    jobs: dict[str, Book] = field(default_factory=dict)
    lines: int = 0
    acks: int = 0
    connections: int = 0
    refused: list[str] = field(default_factory=list)
    slowest_ack_seconds: float = 0.0

    def write(self, path: Path) -> None:
        path.write_bytes(msgspec.json.encode(self))

    @classmethod
    def read(cls, path: Path) -> "Ledger":
        return msgspec.json.decode(path.read_bytes(), type=cls)


def job_name(number: int) -> str:
    return f"job-{number:07}"
