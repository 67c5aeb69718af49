"""Bytes into lines. Pure. Memory is bounded by the longest legal line and what is added at once."""

from typing import Final

from telemetry_common.contract import MAX_LINE_BYTES


class OverLong(bytes):
    """Stands where a line over the limit was; said once per such line, as soon as it is known. No JSON to a decoder."""


OVER_LONG: Final = OverLong(b"over-long")


class LineSplitter:
    """Add what was read; take the lines that are whole, without their newlines, some at a time.

    What is not taken yet stays as it came: a line costs an object only when its turn has come.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self.more = False
        """Whole lines may wait to be taken."""
        self._limit = limit
        self._held = b""
        self._dropping = False

    @property
    def unfinished(self) -> bool:
        """A line has begun whose newline has not been seen. (Asked when all whole lines are taken.)"""
        return self._dropping or bool(self._held)

    @property
    def held(self) -> bytes:
        """What is not taken yet (nothing of a line that is being dropped)."""
        return self._held

    @property
    def held_bytes(self) -> int:
        """The length of `held`."""
        return len(self._held)

    def add(self, data: bytes) -> None:
        self._held += data
        self.more = True

    def take(self, most: int) -> list[bytes]:
        """The next lines, at most so many, in order, blank ones left out."""
        within_limit = len(self._held) < self._limit
        *lines, self._held = self._held.split(b"\n", most)
        self.more = len(lines) == most and b"\n" in self._held
        if self._dropping and lines:
            self._dropping = False
            del lines[0]
        # A line's newline counts towards the limit, hence <.
        found = [line if within_limit or len(line) < self._limit else OVER_LONG for line in lines if line]
        return found if self.more else found + self._begun_too_long()

    def finish(self) -> list[bytes]:
        """The connection ended: what stands there without a newline is the last line (an object says itself whether
        it is whole)."""
        last, self._held = self._held, b""
        return [last] if last else []

    def _begun_too_long(self) -> list[bytes]:
        """What is held is the beginning of a line. Over the limit it is not kept, and said to be so once."""
        if self._dropping:
            self._held = b""
        elif len(self._held) >= self._limit:
            self._held = b""
            self._dropping = True
            return [OVER_LONG]
        return []
