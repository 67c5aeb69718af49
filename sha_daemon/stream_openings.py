"""What a new subscriber is given before the changes: the jobs that are live, in slices of text.

A thousand readers that come at once, after a restart of the hub, are given the same slices.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from sha_daemon import stream_events
from sha_daemon.job_json import Instant
from sha_daemon.silence import Thresholds
from sha_daemon.stream_mirror import Entry
from sha_daemon.stream_recording import Recording, Snapshot
from sha_daemon.stream_ring import BLOCK_BYTES, Key
from telemetry_common.clock import Clock

SHARED_SECONDS = 1.0
"""For so long a snapshot is given to whoever comes; what has changed since follows as events."""
JOBS_IN_A_TURN = 200
"""Jobs put into words in one turn of the event loop, about a millisecond."""


class Opening(Struct, frozen=True):
    """`texts` come first, then the events after `place`."""

    texts: Sequence[bytes]
    place: int

    def after(self, *texts: bytes) -> "Opening":
        return Opening([*texts, *self.texts], self.place)


class Openings:
    def __init__(self, clock: Clock, instant: Callable[[], Instant], thresholds: Thresholds) -> None:
        self._clock = clock
        self._instant = instant
        self._thresholds = thresholds
        self._making = asyncio.Lock()
        self._latest: tuple[Recording, Opening, float] | None = None

    async def of_all(self, recording: Recording) -> Opening:
        async with self._making:
            shared = self._shared(recording)
            if shared is None:
                snapshot = recording.snapshot()
                shared = await self._put_into_words(recording, snapshot)
                self._latest = (recording, shared, self._clock.monotonic())
            return shared

    async def of_one(self, recording: Recording, key: Key, stored: Entry) -> Opening:
        """As it was told last; as `stored` where it is none of those that are told."""
        number = recording.ring.last
        return await self._put_into_words(recording, Snapshot(number, [recording.mirror.get(key) or stored]))

    def tick(self) -> None:
        """Each second: let go of what is too old to be given to anybody."""
        if self._latest is not None and self._shared(self._latest[0]) is None:
            self._latest = None

    def _shared(self, recording: Recording) -> Opening | None:
        if self._latest is None:
            return None
        of, opening, made_at = self._latest
        young = self._clock.monotonic() - made_at <= SHARED_SECONDS
        return opening if of is recording and young and recording.ring.holds(opening.place) else None

    async def _put_into_words(self, recording: Recording, snapshot: Snapshot) -> Opening:
        texts: list[bytes] = []
        for start in range(0, len(snapshot.jobs), JOBS_IN_A_TURN):
            at = self._instant()
            jobs = (job.data(at, self._thresholds) for job in snapshot.jobs[start : start + JOBS_IN_A_TURN])
            texts += _slices(stream_events.event("job", data) for data in jobs)
            await asyncio.sleep(0)
        event_id = stream_events.id_of(recording.epoch, snapshot.number)
        return Opening([*texts, stream_events.ready(len(snapshot.jobs), event_id)], snapshot.number)


def _slices(texts: Iterator[bytes]) -> Iterator[bytes]:
    part: list[bytes] = []
    size = 0
    for text in texts:
        part.append(text)
        size += len(text)
        if size >= BLOCK_BYTES:
            yield b"".join(part)
            part, size = [], 0
    yield b"".join(part)
