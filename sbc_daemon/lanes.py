"""Whose turn it is: every job with something undelivered is a lane, and lanes do not wait for each other. No I/O.

A lane is in exactly one place: ready (in the order of `Queue`, then first come), put off until a time, or under way. A
lane without anything to send is forgotten.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from enum import IntEnum

from msgspec import Struct

from sbc_daemon.outbox_room import RANK


class Queue(IntEnum):
    """Where a lane waits for its turn. Fresh: with news of this process's time. Found: by a start or a sweep.

    Doubtful is a lane whose message was not taken the last time: tens of thousands of unknown jobs must not stand
    before the first line of a known one.
    """

    FRESH_STATE = 0
    FRESH_PROGRESS = 1
    FOUND_STATE = 2
    FOUND_PROGRESS = 3
    SAMPLE = 4
    DOUBTFUL = 5


_FOUND_FIRST = (Queue.FOUND_STATE, Queue.FOUND_PROGRESS, Queue.FRESH_STATE, Queue.FRESH_PROGRESS)
_TURNS: tuple[tuple[Queue, ...], ...] = (
    *[tuple(Queue)] * 6,
    (*_FOUND_FIRST, Queue.SAMPLE, Queue.DOUBTFUL),
    (Queue.DOUBTFUL, *tuple(Queue)[:-1]),
)
"""Who is served first, turn by turn: a hub that cannot keep up with fresh news still hears the others now and then."""


class Hold(Struct, frozen=True):
    """Since when (monotonic) and why the hub does not take a lane's messages for now."""

    status: int
    reason: str
    since: float


class Lane(Struct, kw_only=True, eq=False):
    """`rank` is its next message's; 0 also where nobody has looked yet. `place` is void when it has moved on.

    `failures` counts since a message was taken: with one the lane is doubtful, and under way it is on trial.
    `turned_away_at` is since when the hub has said of its first message that it serves nobody now.
    """

    job_id: str
    rank: int = 0
    fresh: bool = True
    queue: Queue = Queue.FRESH_STATE
    on_trial: bool = False
    under_way: bool = False
    delayed: bool = False
    woken: bool = False
    place: int = 0
    failures: int = 0
    stale_answers: int = 0
    turned_away_at: float | None = None
    hold: Hold | None = None


class Lanes:
    """At most `max_trials` doubtful lanes are under way at a time."""

    def __init__(self, max_trials: int) -> None:
        self._lanes: dict[str, Lane] = {}
        self._ready: list[deque[tuple[Lane, int]]] = [deque() for _ in Queue]
        self._delayed: list[tuple[float, int, Lane]] = []
        self._places = 0
        self._turns = 0
        self._trials = 0
        self._max_trials = max_trials

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

    def take(self, now: float) -> Lane | None:
        """The next lane to serve; it is under way until `again`, `put_off` or `finish` is called for it."""
        self._release_due(now)
        self._turns = (self._turns + 1) % len(_TURNS)
        for queue in _TURNS[self._turns]:
            lane = self._pop(queue) if queue is not Queue.DOUBTFUL or self._trials < self._max_trials else None
            if lane is not None:
                lane.under_way, lane.place, lane.woken = True, 0, False
                lane.on_trial = queue is Queue.DOUBTFUL
                self._trials += lane.on_trial
                return lane
        return None

    def again(self, lane: Lane, rank: int) -> None:
        """It has more to send (or the same once more), of this rank as far as is known."""
        lane.fresh |= lane.woken
        self._queue(lane, 0 if lane.woken else rank)

    def put_off(self, lane: Lane, until: float) -> None:
        """Not before `until` (monotonic seconds)."""
        self._place(lane)
        lane.delayed = True
        heapq.heappush(self._delayed, (until, lane.place, lane))

    def finish(self, lane: Lane) -> None:
        """Nothing of it waits: forget it, unless it was woken meanwhile."""
        self._trial_over(lane)
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
        before = self._ready[:queue] if queue > lane.queue else []
        return any(place == other.place for ready in before for other, place in ready)

    def seconds_to_next(self, now: float) -> float | None:
        """Until a lane that was put off is due; None without one."""
        while self._delayed and self._delayed[0][1] != self._delayed[0][2].place:
            heapq.heappop(self._delayed)
        return max(0.0, self._delayed[0][0] - now) if self._delayed else None

    def _release_due(self, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= now:
            _, place, lane = heapq.heappop(self._delayed)
            if place == lane.place:
                self._queue(lane, lane.rank)

    def _queue(self, lane: Lane, rank: int) -> None:
        self._place(lane)
        lane.rank = rank
        lane.queue = _queue_of(lane, rank)
        ready = self._ready[lane.queue]
        if len(ready) > 2 * len(self._lanes) + 16:
            self._ready[lane.queue] = ready = deque((moved, place) for moved, place in ready if place == moved.place)
        ready.append((lane, lane.place))

    def _pop(self, queue: Queue) -> Lane | None:
        ready = self._ready[queue]
        while ready:
            lane, place = ready.popleft()
            if place == lane.place:
                return lane
        return None

    def _place(self, lane: Lane) -> None:
        self._trial_over(lane)
        self._places += 1
        lane.place = self._places
        lane.under_way = lane.delayed = False

    def _trial_over(self, lane: Lane) -> None:
        self._trials -= lane.on_trial
        lane.on_trial = False


def _queue_of(lane: Lane, rank: int) -> Queue:
    if lane.failures:
        return Queue.DOUBTFUL
    if rank == RANK["sample"]:
        return Queue.SAMPLE
    return Queue(rank + (Queue.FRESH_STATE if lane.fresh else Queue.FOUND_STATE))
