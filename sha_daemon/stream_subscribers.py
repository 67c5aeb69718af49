"""Who follows the stream: each is written what is new as far as its connection takes it, and nobody is waited for."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from sha_daemon import stream_events
from sha_daemon.replies import unavailable
from sha_daemon.stream_ring import Key, Ring
from telemetry_common.clock import Clock
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

MAX_WAITING_BYTES = 16 << 10
"""A connection that has not taken so many bytes yet is written no more for now; what it misses is in the ring."""
BEHIND_SECONDS = 30.0
"""Whoever has not caught up for so long is dropped, as is anybody whose place the ring has given to newer events."""
KEEP_ALIVE_SECONDS = 15.0
"""Something is written at least this often: a dead connection shows, and no proxy takes a quiet one for dead."""
SAY_SECONDS = 60.0
"""Between two lines about dropped subscribers."""
TURN = 100
"""Subscribers that are written to in one turn of the event loop: updates of jobs do not wait for all of a thousand."""


class Wire(Protocol):
    """One connection. Nothing here waits or raises."""

    def write(self, text: bytes) -> None: ...

    def waiting(self) -> int:
        """Bytes that were written and that the network has not taken yet."""

    def gone(self) -> bool:
        """The other end has hung up."""

    def abort(self) -> None:
        """Hang up at once; what is waiting is lost."""


class Subscriber:
    """`key` is the job it follows, None for all. It has no `place` until it was given what comes first."""

    def __init__(self, wire: Wire, key: Key | None) -> None:
        self.wire = wire
        self.key = key
        self.place: int | None = None
        self.ended = asyncio.Event()
        self.behind_since: float | None = None
        self.written_at = 0.0

    def advance(self, ring: Ring, now: float) -> None:
        """Write what is new, as far as the connection takes it."""
        place = ring.last if self.place is None else self.place
        while place < ring.last and self.wire.waiting() <= MAX_WAITING_BYTES:
            block = ring.following(place)
            text = block.after(place, self.key)
            if text:
                self.wire.write(text)
                self.written_at = now
            self.place = place = block.last
        if place == ring.last:
            self.behind_since = None
        elif self.behind_since is None:
            self.behind_since = now

    def lost(self, ring: Ring, now: float) -> bool:
        """Whether it is too slow to be kept."""
        if self.place is not None and not ring.holds(self.place):
            return True
        return self.behind_since is not None and now - self.behind_since > BEHIND_SECONDS


class _Tally:
    """What happens to readers, counted; said at most once a minute."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._said = 0
        self._said_at = float("-inf")
        self.count = 0

    def say(self, now: float) -> None:
        if self.count > self._said and now - self._said_at >= SAY_SECONDS:
            log.warning(fields(self._message, readers=self.count - self._said))
            self._said, self._said_at = self.count, now


class Subscribers:
    def __init__(self, clock: Clock, max_places: int) -> None:
        self._clock = clock
        self._max_places = max_places
        self._all: dict[Subscriber, None] = {}
        self.stopping = False
        self._dropped = _Tally("readers of the stream were too slow and were dropped")
        self._refused = _Tally("readers of the stream were refused; listen.max_streams are there already")
        self.places = 0
        """Taken: by those who follow, and those who are yet to be given what comes first."""

    @property
    def dropped(self) -> int:
        return self._dropped.count

    @property
    def refused(self) -> int:
        return self._refused.count

    @contextmanager
    def place(self) -> Iterator[None]:
        """Raises Problem where there is none."""
        if self.stopping:
            raise unavailable("the hub is stopping; try again", "stopping")
        if self.places >= self._max_places:
            self._refused.count += 1
            raise unavailable("the hub has as many readers of the stream as it takes; try again", "streams_full")
        self.places += 1
        try:
            yield
        finally:
            self.places -= 1

    @contextmanager
    def joined(self, subscriber: Subscriber) -> Iterator[None]:
        self._all[subscriber] = None
        subscriber.written_at = self._clock.monotonic()
        try:
            yield
        finally:
            self._all.pop(subscriber, None)

    @property
    def behind(self) -> bool:
        """Whether somebody has yet to be given what is in the ring already."""
        return any(subscriber.behind_since is not None for subscriber in self._all)

    async def advance(self, ring: Ring) -> None:
        """Give everybody what is new; drop who is lost."""
        for count, subscriber in enumerate(list(self._all), 1):
            self._advance(subscriber, ring)
            if count % TURN == 0:
                await asyncio.sleep(0)

    def _advance(self, subscriber: Subscriber, ring: Ring) -> None:
        now = self._clock.monotonic()
        if not subscriber.lost(ring, now):
            subscriber.advance(ring, now)
        elif not subscriber.ended.is_set():
            self.drop(subscriber)

    def drop(self, subscriber: Subscriber) -> None:
        """Too slow: it may come again, and resume where it was or begin anew."""
        if not subscriber.wire.gone():
            self._dropped.count += 1
            subscriber.wire.abort()
        subscriber.ended.set()

    def tick(self, epoch: str) -> None:
        """Each second: find who has hung up, keep the quiet connections alive, and say how many were dropped."""
        now = self._clock.monotonic()
        for subscriber in self._all:
            if subscriber.wire.gone():
                subscriber.ended.set()
            elif now - subscriber.written_at >= KEEP_ALIVE_SECONDS and not subscriber.wire.waiting():
                self._keep_alive(subscriber, epoch, now)
        self._dropped.say(now)
        self._refused.say(now)

    def _keep_alive(self, subscriber: Subscriber, epoch: str, now: float) -> None:
        if subscriber.place is not None and subscriber.behind_since is None:
            subscriber.wire.write(stream_events.keep_alive(stream_events.id_of(epoch, subscriber.place)))
            subscriber.written_at = now

    def stop(self) -> None:
        """Everybody is let go; whoever was not even given what comes first is cut off. There is no way back."""
        self.stopping = True
        for subscriber in self._all:
            if subscriber.place is None or subscriber.wire.waiting():
                subscriber.wire.abort()
            subscriber.ended.set()
