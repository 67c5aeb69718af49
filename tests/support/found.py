"""Bodies to begin from, and those that a fault was found with: they are kept, and tried in every run."""

import hashlib
import re
from pathlib import Path

MESSAGES = Path(__file__).parent.parent / "golden" / "messages"
FOUND = MESSAGES.parent / "found"


def originals() -> list[bytes]:
    """What senders send, also without the job's id (which must be the path's); what is refused; what was found."""
    accepted = [path.read_bytes().strip() for path in sorted((MESSAGES / "accepted").glob("*.json"))]
    anonymous = [re.sub(rb'"job_id": ?"[^"]*", ?', b"", body) for body in accepted]
    refused = [path.read_bytes().split(b"\n", 1)[1] for path in sorted((MESSAGES / "refused").glob("*.txt"))]
    return accepted + 5 * anonymous + refused + list(found().values())


def found() -> dict[str, bytes]:
    """By the name of the file, which begins with what was wrong."""
    return {path.stem: path.read_bytes() for path in sorted(FOUND.glob("*.body"))}


def keep(what: str, body: bytes) -> Path:
    path = FOUND / f"{what}-{hashlib.sha256(body).hexdigest()[:16]}.body"
    path.write_bytes(body)
    return path
