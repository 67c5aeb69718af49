"""Which lanes share the next request: one with fresh news goes alone, of many that wait as many as fit. No I/O.

A backlog goes out in batches, one message of a job in each, so that the order of a job's messages cannot be lost. It
never takes up all the requests that may be under way: fresh news finds one free.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from msgspec import Struct

from sbc_daemon.lanes import Lane, Lanes, Queue

MAX_ITEMS = 500
"""Of a batch; the hub takes no more."""
SHARE = 4
"""Of the requests that may be under way, one in so many (at least one) may be a batch of the backlog, and as many for
jobs whose message the hub did not take the last time."""
_FRESH = (Queue.FRESH_STATE, Queue.FRESH_PROGRESS)
_CERTAIN = tuple(Queue)[:-1]
_FOUND_FIRST = (Queue.FOUND_STATE, Queue.FOUND_PROGRESS, *_FRESH, Queue.SAMPLE)
_TURNS: tuple[tuple[Queue, ...], ...] = (
    *[tuple(Queue)] * 6,
    (*_FOUND_FIRST, Queue.DOUBTFUL),
    (Queue.DOUBTFUL, *_CERTAIN),
)
"""Who is served first, turn by turn: a hub that cannot keep up with fresh news still hears the others now and then."""


class Turn(Struct, frozen=True, eq=False):
    """The lanes of one request. `trial`: doubtful ones. Say `over` when it is."""

    lanes: Sequence[Lane]
    trial: bool = False

    @property
    def batch(self) -> bool:
        return len(self.lanes) > 1 and not self.trial


class Turns:
    def __init__(self, lanes: Lanes, most_in_flight: int) -> None:
        self._lanes = lanes
        self._most = max(1, most_in_flight // SHARE)
        self._trials = 0
        self._batches = 0
        self._count = 0

    def next(self, now: float, free: int, *, batches: bool) -> Turn | None:
        """The next one, where so many (at least one) more may be under way. `batches`: the hub takes them."""
        self._lanes.release_due(now)
        self._count = (self._count + 1) % len(_TURNS)
        order = _TURNS[self._count]
        for queue in order:
            if most := self._most_lanes(queue, free, batches=batches):
                return self._begun(self._taken(queue, order, most), trial=queue is Queue.DOUBTFUL)
        return None

    def over(self, turn: Turn) -> None:
        self._trials -= turn.trial
        self._batches -= turn.batch

    def _begun(self, lanes: Sequence[Lane], *, trial: bool) -> Turn:
        turn = Turn(lanes, trial)
        self._trials += turn.trial
        self._batches += turn.batch
        return turn

    def _most_lanes(self, queue: Queue, free: int, *, batches: bool) -> int:
        """Of a turn that begins with this queue's first; 0 for no such turn now."""
        if not self._lanes.ready(queue):
            return 0
        if queue is Queue.DOUBTFUL:
            return 0 if self._trials >= self._most else MAX_ITEMS if batches else 1
        if not batches or (queue in _FRESH and self._lanes.ready(*_FRESH) <= free):
            return 1
        return MAX_ITEMS if self._batches < self._most else 0

    def _taken(self, queue: Queue, order: Sequence[Queue], most: int) -> list[Lane]:
        """The queue's first, then whoever is next: doubtful ones keep to themselves, suspects are alone."""
        found = [self._lanes.take(queue)]
        if queue is Queue.DOUBTFUL:
            sources: Iterable[Queue] = (Queue.DOUBTFUL,)
        else:
            sources = (queue, *(other for other in order if other is not Queue.DOUBTFUL))
        for source in sources:
            while len(found) < most and self._lanes.ready(source):
                if queue is Queue.DOUBTFUL and (found[0].alone or self._lanes.first(source).alone):
                    break
                found.append(self._lanes.take(source))
        return found


def fitting(sizes: Sequence[int], most_bytes: int) -> int:
    """How many of these, in their order, stay below `most_bytes` together; at least the first, whatever its size."""
    return max(1, sum(total <= most_bytes for total in accumulate(sizes)))
