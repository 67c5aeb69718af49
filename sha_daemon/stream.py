"""The stream of changes, put together: what the hub tells it, what readers are given, and the tasks that keep it going.

Who listens costs: while nobody does, a commit costs one comparison, no query is made and nothing is kept.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager

from sha_daemon import stream_events
from sha_daemon.batch import Outcome
from sha_daemon.database import Database, DatabaseError
from sha_daemon.job_json import Instant
from sha_daemon.job_types import JobType
from sha_daemon.replies import Problem, no_such_job, unavailable, unknown_job_type
from sha_daemon.silence import Thresholds
from sha_daemon.stream_look import Look
from sha_daemon.stream_lookout import Lookout
from sha_daemon.stream_mirror import Entry, entry, names_of
from sha_daemon.stream_openings import Opening, Openings
from sha_daemon.stream_recording import Recording
from sha_daemon.stream_ring import Key, Ring
from sha_daemon.stream_subscribers import Subscriber, Subscribers
from telemetry_common.clock import Clock
from telemetry_common.contract import FINAL

TELL_SECONDS = 0.05
"""Between two times of telling: what changes meanwhile is told together, of each job the newest only. Where it takes
longer to write to all readers, the pause is as long: updates of jobs have half of the time in any case.
"""
TICK_SECONDS = 1.0
LINGER_SECONDS = 60.0
"""So long after the last reader left the recording goes on: a single one that is cut off can resume."""
RING_BYTES = 16 << 20
RING_EVENTS = 20_000
RETRY_MILLISECONDS = 2000
"""After how long a browser comes again, and up to twice that: not a thousand at once after a restart of the hub."""


class Stream:
    """`databases` are asked only while somebody listens. At most `max_streams` readers at once."""

    def __init__(
        self,
        databases: Mapping[JobType, Database],
        clock: Clock,
        reading_us: Callable[[], int],
        thresholds: Thresholds,
        max_streams: int,
        *,
        ring_bytes: int = RING_BYTES,
    ) -> None:
        self._databases = {kind.name: (kind, database) for kind, database in databases.items()}
        self._clock = clock
        self._reading_us = reading_us
        self._thresholds = thresholds
        self._ring_bytes = ring_bytes
        self._news = asyncio.Event()
        self._lookout = Lookout(Look(databases, clock, self._instant), clock, self._news)
        self._openings = Openings(clock, self._instant, thresholds)
        self.subscribers = Subscribers(clock, max_streams)
        self._recording: Recording | None = None
        self._recorded = asyncio.Event()
        self._left_at = self._ticked_at = clock.monotonic()

    def _instant(self) -> Instant:
        return Instant(self._clock.wall(), self._reading_us())

    def committed(self, kind: JobType, outcomes: Sequence[Outcome]) -> None:
        """The hub has committed these."""
        recording = self._recording
        if recording is None:
            return
        for outcome in outcomes:
            job = outcome.job
            if job is not None and (outcome.result == "applied" or job.status not in FINAL):
                recording.commit(kind, job)
        self._news.set()

    def look_at(self, kind: JobType, job_id: str) -> None:
        """The hub has changed this job in a way of which only the database knows the result."""
        if self._recording is not None:
            self._recording.unknown.add((kind.name, job_id))
            self._lookout.ask()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one reader, within the block. Raises Problem where there is none."""
        with self.subscribers.place():
            self._lookout.begin(self._begun())
            try:
                yield
            finally:
                if self.subscribers.places == 1:
                    self._lookout.end()
                    self._left_at = self._clock.monotonic()

    def _begun(self) -> Recording:
        if self._recording is None:
            ring = Ring(self._ring_bytes, RING_EVENTS)
            self._recording = Recording(secrets.token_hex(4), ring, self._thresholds)
            self._recorded.set()
        return self._recording

    async def opening(self, key: Key | None, last_event_id: str | None) -> Opening:
        """What a reader who has a place is given first. Raises Problem."""
        recording = self._begun()
        first = [stream_events.retry(RETRY_MILLISECONDS + secrets.randbelow(RETRY_MILLISECONDS))]
        if last_event_id is not None:
            resumed = recording.resumed(last_event_id)
            if isinstance(resumed, int):
                return await self._resuming(recording, key, Opening(first, resumed))
            first.append(stream_events.reset(resumed))
        if not await self._lookout.looked():
            if self.subscribers.stopping:
                raise unavailable("the hub is stopping; try again", "stopping")
            raise _away()
        if key is None:
            opening = await self._openings.of_all(recording)
        else:
            opening = await self._openings.of_one(recording, key, await self._job(recording, key))
        return opening.after(*first)

    async def _resuming(self, recording: Recording, key: Key | None, opening: Opening) -> Opening:
        if key is not None:
            await self._job(recording, key)
        return opening

    async def _job(self, recording: Recording, key: Key) -> Entry:
        """As it was told, or as it is stored where it is not among the live. Raises Problem."""
        job_type, job_id = key
        if job_type not in self._databases:
            raise unknown_job_type(job_type, self._databases)
        told = recording.mirror.get(key)
        if told is not None:
            return told
        kind, database = self._databases[job_type]
        try:
            view = await database.run(lambda session: session.job(job_id))
        except DatabaseError:
            raise _away() from None
        if view is None:
            raise no_such_job(job_type, job_id)
        if view.job.status not in FINAL:
            self.look_at(kind, job_id)
        return entry(kind, view.job, names_of(view), self._instant(), self._thresholds)

    async def follow(self, subscriber: Subscriber, place: int) -> None:
        """Give a subscriber that has joined what comes after `place`, until it leaves, is dropped, or the hub stops."""
        subscriber.place = place
        self._news.set()
        await subscriber.ended.wait()

    def stop(self) -> None:
        """Let go of all readers, and take no more: they come again when there is a hub again."""
        self.subscribers.stop()
        self._lookout.stop_waiting()

    def tasks(self) -> Iterator[tuple[str, Coroutine[None, None, None]]]:
        """What must run for ever, by name."""
        yield "stream", self._run()
        yield "stream lookout", self._lookout.run()

    async def _run(self) -> None:
        while True:
            await self._recorded.wait()
            recording = self._begun()
            began = self._clock.monotonic()
            await self._tell(recording)
            await asyncio.sleep(max(TELL_SECONDS, self._clock.monotonic() - began))
            if not (recording.has_news or self.subscribers.behind):
                await self._wait_for_news()

    async def _tell(self, recording: Recording) -> None:
        at, now = self._instant(), self._clock.monotonic()
        if now - self._ticked_at >= TICK_SECONDS:
            self._ticked_at = now
            self._tick(recording, at, now)
        unknown = len(recording.unknown)
        recording.tell(at, now)
        if len(recording.unknown) > unknown:
            self._lookout.ask()
        await self.subscribers.advance(recording.ring)

    def _tick(self, recording: Recording, at: Instant, now: float) -> None:
        recording.judge_silence(at, now)
        self._openings.tick()
        self.subscribers.tick(recording.epoch)
        if not self.subscribers.places and now - self._left_at > LINGER_SECONDS:
            self._recording = None
            self._recorded.clear()

    async def _wait_for_news(self) -> None:
        """Or for the next tick."""
        try:
            async with asyncio.timeout(TICK_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return
        self._news.clear()


def _away() -> Problem:
    return unavailable("the hub's database is not available; try again", "database_away")
