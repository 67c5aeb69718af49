"""Whose turn it is: every job with something undelivered is a lane, and lanes do not wait for each other. No I/O.

A lane is in exactly one place: ready (in the order of `Queue`, then first come), put off until a time, or under way. A
lane without anything to send is forgotten. `turns` says which of them share a request.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from enum import IntEnum

from msgspec import Struct

from sbc_daemon.outbox_room import RANK


class Queue(IntEnum):
    """Where a lane waits for its turn. Fresh: with news since the hub can be reached. Found: by a start or a sweep, or
    when an outage was over.

    Doubtful is a lane whose message was not taken the last time: tens of thousands of unknown jobs must not stand
    before the first line of a known one.
    """

    FRESH_STATE = 0
    FRESH_PROGRESS = 1
    FOUND_STATE = 2
    FOUND_PROGRESS = 3
    SAMPLE = 4
    DOUBTFUL = 5


class Hold(Struct, frozen=True):
    """Since when (monotonic) and why the hub does not take a lane's messages for now."""

    status: int
    reason: str
    since: float


class Lane(Struct, kw_only=True, eq=False):
    """`rank` is its next message's; 0 also where nobody has looked yet. `place` is void when it has moved on.

    `failures` counts since a message was taken: with one the lane is doubtful. `alone`: a request that it shared with
    others failed as a whole, and it may be the cause. `turned_away_at` is since when the hub has said of its first
    message that it serves nobody now.
    """

    job_id: str
    rank: int = 0
    fresh: bool = True
    queue: Queue = Queue.FRESH_STATE
    under_way: bool = False
    delayed: bool = False
    woken: bool = False
    alone: bool = False
    place: int = 0
    failures: int = 0
    stale_answers: int = 0
    turned_away_at: float | None = None
    hold: Hold | None = None


class Lanes:
    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}
        self._ready: list[OrderedDict[str, Lane]] = [OrderedDict() for _ in Queue]
        self._delayed: list[tuple[float, int, Lane]] = []
        self._places = 0

    def __len__(self) -> int:
        return len(self._lanes)

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def wake(self, job_id: str) -> None:
        """The job has news. One that was put off stays put off: the hub asked for that, or did not answer."""
        lane = self._lanes.get(job_id)
        if lane is None:
            lane = self._lanes[job_id] = Lane(job_id=job_id)
            self._queue(lane, 0)
        elif lane.under_way:
            lane.woken = True
        elif not lane.delayed and not lane.failures and lane.queue is not Queue.FRESH_STATE:
            lane.fresh = True
            self._queue(lane, 0)

    def take_up(self, job_ids: Iterable[str]) -> None:
        """These have something in the outbox, and it is no news. A lane that is there already stays as it is."""
        for job_id in job_ids:
            if job_id not in self._lanes:
                lane = self._lanes[job_id] = Lane(job_id=job_id, fresh=False)
                self._queue(lane, 0)

    def outage_over(self) -> None:
        """What has waited through it is no news any more: what is said from now on goes before it."""
        for lane in self:
            lane.fresh = False
        for queue in (Queue.FRESH_STATE, Queue.FRESH_PROGRESS):
            for lane in list(self._ready[queue].values()):
                self._queue(lane, lane.rank)

    def ready(self, *queues: Queue) -> int:
        """How many lanes wait in these."""
        return sum(len(self._ready[queue]) for queue in queues)

    def first(self, queue: Queue) -> Lane:
        """The one whose turn is next there. Raises StopIteration where the queue is empty."""
        return next(iter(self._ready[queue].values()))

    def take(self, queue: Queue) -> Lane:
        """The first of a queue that is not empty; under way until `again`, `put_off` or `finish` is called for it."""
        _, lane = self._ready[queue].popitem(last=False)
        lane.under_way, lane.place, lane.woken = True, 0, False
        return lane

    def again(self, lane: Lane, rank: int) -> None:
        """It has more to send (or the same once more), of this rank as far as is known."""
        lane.fresh |= lane.woken
        self._queue(lane, 0 if lane.woken else rank)

    def put_off(self, lane: Lane, until: float) -> None:
        """Not before `until` (monotonic seconds)."""
        self._leave(lane)
        lane.delayed = True
        heapq.heappush(self._delayed, (until, lane.place, lane))

    def finish(self, lane: Lane) -> None:
        """Nothing of it waits: forget it, unless it was woken meanwhile."""
        del self._lanes[lane.job_id]
        if lane.woken:
            self.wake(lane.job_id)

    def release(self, status: int) -> int:
        """Let every lane that is held for this answer go on at once; how many there were."""
        held = [lane for lane in self if lane.delayed and lane.hold is not None and lane.hold.status == status]
        for lane in held:
            lane.failures = 0
            self._queue(lane, lane.rank)
        return len(held)

    def outranked(self, lane: Lane, rank: int) -> bool:
        """Its next message is less urgent than thought, and a lane that goes before such a one is ready."""
        queue = _queue_of(lane, rank)
        return queue > lane.queue and any(self._ready[:queue])

    def release_due(self, now: float) -> None:
        """Those that were put off until now are ready."""
        while self._delayed and self._delayed[0][0] <= now:
            _, place, lane = heapq.heappop(self._delayed)
            if place == lane.place:
                self._queue(lane, lane.rank)

    def seconds_to_next(self, now: float) -> float | None:
        """Until a lane that was put off is due; None without one."""
        while self._delayed and self._delayed[0][1] != self._delayed[0][2].place:
            heapq.heappop(self._delayed)
        return max(0.0, self._delayed[0][0] - now) if self._delayed else None

    def _queue(self, lane: Lane, rank: int) -> None:
        self._leave(lane)
        lane.rank = rank
        lane.queue = _queue_of(lane, rank)
        self._ready[lane.queue][lane.job_id] = lane

    def _leave(self, lane: Lane) -> None:
        """Wherever it is; what the heap has of it is void from now on."""
        self._ready[lane.queue].pop(lane.job_id, None)
        self._places += 1
        lane.place = self._places
        lane.under_way = lane.delayed = False


def _queue_of(lane: Lane, rank: int) -> Queue:
    if lane.failures:
        return Queue.DOUBTFUL
    if rank == RANK["sample"]:
        return Queue.SAMPLE
    return Queue(rank + (Queue.FRESH_STATE if lane.fresh else Queue.FOUND_STATE))
