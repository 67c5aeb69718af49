"""The latest events, numbered without a gap, in the blocks in which they were told. Pure.

Every subscriber has a place in it: the number of the last event that it was given. Whoever is slower than the ring is
long has lost its place. The ring is what is kept for the slow, once for all of them.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from msgspec import Struct

Key = tuple[str, str]
"""Job type and job id."""
BLOCK_BYTES = 32 << 10
"""A subscriber is written no more than this at a time."""


class Event(Struct, frozen=True):
    key: Key
    text: bytes


class Block:
    """Consecutive events. Whoever follows every job is given the same `text`, which is put together once."""

    __slots__ = ("_ends", "_of", "first", "last", "text")

    def __init__(self, first: int, events: Sequence[Event]) -> None:
        self.first = first
        self.last = first + len(events) - 1
        self.text = b"".join(event.text for event in events)
        self._ends = list(accumulate((len(event.text) for event in events), initial=0))
        self._of: dict[Key, list[int]] = {}
        for place, event in enumerate(events):
            self._of.setdefault(event.key, []).append(place)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def after(self, number: int, key: Key | None) -> bytes:
        """The text of the events above `number`: of one job, or of all (`key` None)."""
        skipped = max(0, number + 1 - self.first)
        if key is None:
            return self.text[self._ends[skipped] :] if skipped else self.text
        places = [place for place in self._of.get(key, ()) if place >= skipped]
        return b"".join(self.text[self._ends[place] : self._ends[place + 1]] for place in places)


class Ring:
    """Holds at most `max_bytes` of text and `max_events`; the oldest block goes first."""

    def __init__(self, max_bytes: int, max_events: int) -> None:
        self._max_bytes = max_bytes
        self._max_events = max_events
        self._blocks: list[Block] = []
        self._bytes = 0
        self.last = 0

    def add(self, events: Iterable[Event]) -> None:
        """Number these events, in their order, from `last` + 1."""
        for part in _parts(events):
            block = Block(self.last + 1, part)
            self._blocks.append(block)
            self._bytes += len(block.text)
            self.last = block.last
        self._trim()

    def holds(self, number: int) -> bool:
        """Whether whoever was last given `number` can be given all that came after it."""
        first = self._blocks[0].first if self._blocks else self.last + 1
        return first - 1 <= number <= self.last

    def following(self, number: int) -> Block:
        """The block with the event after `number`, which is held and is not the last."""
        return self._blocks[bisect_left(self._blocks, number + 1, key=lambda block: block.last)]

    def _trim(self) -> None:
        gone, events = 0, self.last + 1 - (self._blocks[0].first if self._blocks else self.last + 1)
        while gone < len(self._blocks) and (self._bytes > self._max_bytes or events > self._max_events):
            self._bytes -= len(self._blocks[gone].text)
            events -= len(self._blocks[gone])
            gone += 1
        del self._blocks[:gone]


def _parts(events: Iterable[Event]) -> Iterator[list[Event]]:
    part: list[Event] = []
    size = 0
    for event in events:
        if part and size + len(event.text) > BLOCK_BYTES:
            yield part
            part, size = [], 0
        part.append(event)
        size += len(event.text)
    if part:
        yield part
