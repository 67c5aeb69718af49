"""One look at the tables for what others have changed in them: the appliance's GUI and engine, a person, another hub.

It asks for the fingerprints of the live jobs, compares them with what was told, and reads the rows that differ.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from sha_daemon.database import Database, Session
from sha_daemon.fingerprint import Fingerprint, Question
from sha_daemon.job_json import Instant
from sha_daemon.job_types import JobType
from sha_daemon.records import JobView
from sha_daemon.stream_recording import Recording
from telemetry_common.clock import Clock

LIMIT = 20_000
"""Jobs of one status that are followed."""
SHARE = 3000
"""Jobs whose disks are looked at in one look; where there are more, it is the turn of each share after the other."""
PAGE = 500
"""Jobs that are read in one transaction."""
MARGIN_SECONDS = 5.0
"""A job made so long before the last look is looked for once more: a commit shows after its time of creation."""
LONGEST_SECONDS = 3600.0


class Look:
    """At the tables of all kinds of job, again and again."""

    def __init__(self, databases: Mapping[JobType, Database], clock: Clock, instant: Callable[[], Instant]) -> None:
        self._databases = databases
        self._clock = clock
        self._instant = instant
        self._turn = 0
        self._last = clock.monotonic()

    async def at_all(self, recording: Recording) -> float:
        """Afterwards the recording is complete, and knows all that was changed before. Raises DatabaseError.

        Returns the seconds that the fingerprints took, which every look costs; what is read depends on what changed.
        """
        began = self._clock.monotonic()
        recording.begin_look()
        question = self._question(recording, began)
        took = 0.0
        for kind, database in self._databases.items():
            asked = self._clock.monotonic()
            taken = await database.run(lambda session: session.fingerprints(question))
            took += self._clock.monotonic() - asked
            await self._read(recording, kind, sorted(recording.differing(kind, taken)), taken)
        recording.complete = True
        recording.mirror.forget_ended(self._last - 2 * MARGIN_SECONDS)
        self._last = began
        return took

    async def at_unknown(self, recording: Recording) -> None:
        """Only at the jobs of which nothing can be told before. Raises DatabaseError."""
        recording.begin_look()
        for kind in self._databases:
            await self._read(recording, kind, [job_id for name, job_id in recording.unknown if name == kind.name], {})

    async def _read(
        self, recording: Recording, kind: JobType, job_ids: Sequence[str], taken: Mapping[str, Fingerprint]
    ) -> None:
        for page in _pages(job_ids):
            views = await self._databases[kind].run(partial(_views, page))
            recording.seen(kind, page, views, taken, self._instant(), self._clock.monotonic())

    def _question(self, recording: Recording, now: float) -> Question:
        """A recording that begins has to see every disk, and tells of nothing that has ended before."""
        if not recording.complete:
            return Question(limit=LIMIT, made_within_seconds=0)
        shares = max(1, -(-len(recording.mirror) // SHARE))
        self._turn = (self._turn + 1) % shares
        since = min(now - self._last + MARGIN_SECONDS, LONGEST_SECONDS)
        return Question(limit=LIMIT, made_within_seconds=int(since), share=self._turn, shares=shares)


def _views(job_ids: Sequence[str], session: Session) -> dict[str, JobView]:
    return session.views(job_ids)


def _pages(job_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(job_ids), PAGE):
        yield job_ids[start : start + PAGE]
