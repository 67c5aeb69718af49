"""A checksum over what a row holds: a disk may give back other bits, and SQLite would not know. Pure."""

import zlib

_SEAL_BYTES = 4


class BrokenSeal(ValueError):
    """These are not the bytes that were kept."""


def sealed(body: bytes, *beside: str | int) -> bytes:
    """`body` as it is kept. `beside` is what else belongs to it and stands in columns of its own."""
    return _checksum(body, beside) + body


def unsealed(kept: bytes, *beside: str | int) -> bytes:
    """The body; `beside` must be what it was sealed with. Raises BrokenSeal for any byte that differs."""
    body = kept[_SEAL_BYTES:]
    if kept[:_SEAL_BYTES] != _checksum(body, beside):
        raise BrokenSeal("the disk gave back other bytes than were written")
    return body


def _checksum(body: bytes, beside: tuple[str | int, ...]) -> bytes:
    seed = zlib.crc32(repr(beside).encode("utf-8", "surrogatepass")) if beside else 0
    return zlib.crc32(body, seed).to_bytes(_SEAL_BYTES, "big")
