"""Messages to begin from, and those that a fault was found with: they are kept, and sent again in every run."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

MESSAGES = Path(__file__).parent.parent / "golden" / "messages"
FOUND = MESSAGES.parent / "found"


def originals() -> list[bytes]:
    """What senders send, also without the job's id (which must be the path's); what is refused; what was found."""
    accepted = [path.read_bytes().strip() for path in sorted((MESSAGES / "accepted").glob("*.json"))]
    anonymous = [re.sub(rb'"job_id": ?"[^"]*", ?', b"", body) for body in accepted]
    refused = [path.read_bytes().split(b"\n", 1)[1] for path in sorted((MESSAGES / "refused").glob("*.txt"))]
    return accepted + 5 * anonymous + refused + [message for messages in found().values() for message in messages]


def found() -> dict[str, list[bytes]]:
    """Messages of one job in their order, by the name of the file, which begins with what was wrong."""
    return {path.stem: _messages(path.read_bytes()) for path in sorted(FOUND.glob("*.messages"))}


def _messages(kept: bytes) -> list[bytes]:
    messages = []
    while kept:
        size, _, rest = kept.partition(b"\n")
        messages.append(rest[: int(size)])
        kept = rest[int(size) + 1 :]
    return messages


def keep(what: str, messages: Sequence[bytes]) -> Path:
    """Messages of one job, each behind a line with its size in bytes."""
    kept = b"".join(b"%d\n%s\n" % (len(message), message) for message in messages)
    path = FOUND / f"{what}-{hashlib.sha256(kept).hexdigest()[:16]}.messages"
    path.write_bytes(kept)
    return path
