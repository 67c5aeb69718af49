"""The sweep for silent jobs: warn once per silence, fail the lost by one guarded UPDATE, say when one is heard again.

The rule itself is `silence`, the words are `silence_story`; time is the listening clock's. Several hubs on one database
may sweep at once. Most sweeps find nothing new: they read an index, and no row.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from sha_daemon.database import Database, DatabaseConflict, DatabaseError, RowLocked, RowRefused, Session
from sha_daemon.listening import ListeningClock
from sha_daemon.records import Job, JobView
from sha_daemon.silence import Thresholds, Verdict, judge, message, reading_before
from sha_daemon.silence_story import SilenceStory
from sha_daemon.tally import SWEEP_BOUNDS, Distribution
from sha_daemon.unwritten import Unwritten
from telemetry_common.clock import Clock
from telemetry_common.lifecycle import Pulse
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

SWEEP_LIMIT = 10_000
"""Silent jobs looked at in one sweep, the longest silence first; the rest has its turn in the next. As many of those
that were never heard."""
ATTEMPTS = 3
"""How often a verdict is tried that deadlocked with somebody, before it is left for the next sweep."""
JOBS_AT_ONCE = 200
"""Asked about in one statement; then whoever answers senders has a turn in the event loop."""
Look = Callable[[Job, int], Awaitable[None]]
"""Looks at one running job, when the listening clock has this reading."""


class StaleWatchdog:
    def __init__(
        self,
        database: Database,
        listening: ListeningClock,
        clock: Clock,
        thresholds: Thresholds,
        *,
        fail_never_heard: bool,
        unwritten: Unwritten,
        pulse: Pulse,
        failed: Callable[[str], None] | None = None,
    ) -> None:
        """`failed` is called with the id of each job that the watchdog has failed."""
        self._database = database
        self._listening = listening
        self._clock = clock
        self._thresholds = thresholds
        self._fail_never_heard = fail_never_heard
        self._unwritten = unwritten
        self._pulse = pulse
        self._on_failed = failed
        self._story = SilenceStory()
        self.failed = 0
        self.put_off = 0
        self.sweep_seconds = Distribution(SWEEP_BOUNDS)

    @property
    def silent(self) -> int:
        """Jobs that were silent at the last sweep."""
        return self._story.silent

    @property
    def never_heard(self) -> int:
        return self._story.never_heard

    async def run(self, interval: float) -> None:
        """Sweep at once and every `interval` seconds, for ever: a hub that crash-loops still finds the dead.

        A database that is away costs a sweep, not the daemon.
        """
        while True:
            begun = self._clock.monotonic()
            try:
                await self.sweep()
                self.sweep_seconds.add(self._clock.monotonic() - begun)
                self._story.swept()
            except DatabaseError as error:
                self.put_off += 1
                self._story.not_swept(error)
            self._pulse.beat()
            await asyncio.sleep(interval)

    async def sweep(self) -> None:
        reading_us = await self._listening.advance()
        self._pulse.beat()
        never, found = await self._database.run(lambda session: self._found(session, reading_us))
        self._pulse.beat()
        await self._see_unseen(reading_us)
        audible, news = self._sorted(found, reading_us)
        await self._each(news, self._look_at, reading_us)
        await self._tell_ended(self._story.over({job_id for job_id, _ in found} - audible), reading_us)
        self._story.never_heard_are(never)
        if self._fail_never_heard:
            await self._each(never, self._look_at_never_heard, reading_us)
        self._story.no_complaint_but_of([*news, *never])

    def _found(self, session: Session, reading_us: int) -> tuple[list[str], Sequence[tuple[str, int]]]:
        """Jobs never heard; and those that are silent, with the reading at which they were last heard."""
        never = session.never_heard_jobs(SWEEP_LIMIT)
        before = reading_before(reading_us, self._thresholds.warn)
        silent, unheard = session.silent_jobs(before, SWEEP_LIMIT + len(never)), set(never)
        return never, [each for each in silent if each[0] not in unheard] if unheard else silent

    async def _see_unseen(self, reading_us: int) -> None:
        try:
            await self._database.run(lambda session: session.see_unseen_jobs(reading_us))
        except (RowLocked, DatabaseConflict) as error:
            log.debug(fields("unseen jobs are left for the next sweep", reason=error))

    def _sorted(self, found: Sequence[tuple[str, int]], reading_us: int) -> tuple[set[str], list[str]]:
        """Which of these are audible after all, and of which there is news: fallen silent, or lost.

        Ten thousand may be silent, and nothing new about any of them: the rule is asked of those only that it could say
        something new of.
        """
        lost_before, told = reading_before(reading_us, self._thresholds.fail), self._story.told
        audible = {job_id for job_id, heard_us in self._unwritten.among(found) if self._fresh(heard_us, reading_us)}
        news = [job_id for job_id, heard_us in found if heard_us < lost_before or told.get(job_id) != heard_us]
        return audible, [job_id for job_id in news if job_id not in audible] if audible else news

    def _fresh(self, heard_us: int, reading_us: int) -> bool:
        return judge(heard_us, reading_us, self._thresholds).standing == "fresh"

    async def _each(self, job_ids: Sequence[str], look: Look, reading_us: int) -> None:
        """Look at each of these that still runs. Whoever answers senders has turns in between."""
        for first in range(0, len(job_ids), JOBS_AT_ONCE):
            some = job_ids[first : first + JOBS_AT_ONCE]
            views = await self._views(some)
            for view in (views[job_id] for job_id in some if job_id in views):
                if view.job.status == "running":
                    await self._safely(look, view.job, reading_us)

    async def _safely(self, look: Look, job: Job, reading_us: int) -> None:
        """A row that throws, that another program holds or that the server refuses does not stop the sweep."""
        try:
            await look(job, reading_us)
        except (RowLocked, DatabaseConflict) as error:
            self._story.put_off(job.job_id, error)
        except RowRefused as error:
            self._story.refused(job.job_id, error)
        except DatabaseError:
            raise
        except Exception as error:
            self._story.failed_to_judge(job.job_id, error)

    async def _look_at(self, job: Job, reading_us: int) -> None:
        """Warn of it or fail it, by what is known of it now."""
        if job.heard_us is None or job.last_telemetry_at is None:
            return
        heard_us = self._unwritten.later_of(job.job_id, job.heard_us)
        verdict = judge(heard_us, reading_us, self._thresholds)
        if verdict.standing == "lost":
            await self._fail(job, verdict, reading_us, since=job.last_telemetry_at)
        elif verdict.standing == "silent":
            self._story.fell_silent(job.job_id, job.heard_us, verdict.silence_seconds)

    async def _look_at_never_heard(self, job: Job, reading_us: int) -> None:
        """Fail it by its start, once a hub has seen it for long enough."""
        if job.heard_us is None or job.started_at is None or job.last_telemetry_at is not None:
            return
        verdict = judge(self._unwritten.later_of(job.job_id, job.heard_us), reading_us, self._thresholds)
        if verdict.standing == "lost":
            await self._fail(job, verdict, reading_us, since=job.started_at)

    async def _fail(self, job: Job, verdict: Verdict, reading_us: int, since: float) -> None:
        """Takes effect only if the guarded UPDATE finds the job still running and still silent.

        A job that was heard meanwhile, and whose update waits for a slow database, is left for the next sweep.
        """
        if self._unwritten.is_under_way(job.job_id):
            return
        now = self._clock.wall()
        text = message(max(now - since, verdict.silence_seconds))
        before = reading_before(reading_us, self._thresholds.fail)
        if await self._done(lambda session: session.fail_silent(job.job_id, before, now, text)):
            self.failed += 1
            self._story.failed(job.job_id, text)
            if self._on_failed is not None:
                self._on_failed(job.job_id)

    async def _done(self, verdict: Callable[[Session], bool]) -> bool:
        """Whether it took effect. What deadlocked is tried again at once, a few times."""
        for attempt in range(1, ATTEMPTS + 1):
            self._pulse.beat()
            try:
                return await self._database.run(verdict)
            except DatabaseConflict:
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _tell_ended(self, job_ids: list[str], reading_us: int) -> None:
        for first in range(0, len(job_ids), JOBS_AT_ONCE):
            some = job_ids[first : first + JOBS_AT_ONCE]
            views = await self._views(some)
            for job_id in some:
                self._story.ended(job_id, views.get(job_id), reading_us)

    async def _views(self, job_ids: Sequence[str]) -> dict[str, JobView]:
        self._pulse.beat()
        return await self._database.run(lambda session: session.views(job_ids))
