"""Bytes into lines. Pure. Memory is bounded by the longest legal line, whatever arrives and however slowly."""

from typing import Final

from telemetry_common.contract import MAX_LINE_BYTES


class OverLong:
    """Stands where a line over the limit was; said once per such line, as soon as it is known."""


OVER_LONG: Final = OverLong()


class LineSplitter:
    """Feed it what was read; it returns the lines that are whole, without their newlines."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._partial = bytearray()
        self._dropping = False

    @property
    def unfinished(self) -> bool:
        """A line has begun whose newline has not been seen."""
        return self._dropping or bool(self._partial)

    @property
    def half(self) -> bytes:
        """What is there of the line that has begun (nothing of one that is being dropped)."""
        return bytes(self._partial)

    @property
    def half_bytes(self) -> int:
        """The length of `half`."""
        return len(self._partial)

    def take_up(self, half: bytes) -> None:
        """Go on in the middle of the line that began with `half`."""
        self._partial += half

    def feed(self, data: bytes) -> list[bytes | OverLong]:
        """The lines that end within `data`, in order, blank ones left out."""
        if b"\n" not in data:
            return self._extend(data)
        first, *lines, rest = data.split(b"\n")
        found = self._complete(first)
        # A line's newline counts towards the limit, hence >=.
        found += [line if len(line) < self._limit else OVER_LONG for line in lines if line]
        found += self._extend(rest)
        return found

    def finish(self) -> list[bytes | OverLong]:
        """The connection ended: what stands there without a newline is the last line (an object says itself whether
        it is whole)."""
        last = bytes(self._partial)
        self._partial.clear()
        return [last] if last else []

    def _extend(self, data: bytes) -> list[bytes | OverLong]:
        """More of a line whose end is not in sight."""
        if self._dropping:
            return []
        self._partial += data
        if len(self._partial) < self._limit:
            return []
        self._dropping = True
        self._partial = bytearray()
        return [OVER_LONG]

    def _complete(self, tail: bytes) -> list[bytes | OverLong]:
        """The end of the line that had begun before."""
        if self._dropping:
            self._dropping = False
            return []
        line = bytes(self._partial + tail) if self._partial else tail
        self._partial.clear()
        if len(line) >= self._limit:
            return [OVER_LONG]
        return [line] if line else []
