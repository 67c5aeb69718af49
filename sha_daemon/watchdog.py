"""The sweep for silent jobs: warn once per silence, fail the lost by one guarded UPDATE, say when one is heard again.

The rule itself is `silence`; time is the listening clock's. Several hubs on one database may sweep at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sha_daemon.database import Database, DatabaseConflict, DatabaseError, RowLocked, Session
from sha_daemon.listening import ListeningClock
from sha_daemon.records import JobView, SilentJob
from sha_daemon.silence import Thresholds, Verdict, judge, message, reading_before
from sha_daemon.tally import SWEEP_BOUNDS, Distribution
from sha_daemon.unwritten import Unwritten
from telemetry_common.clock import Clock
from telemetry_common.lifecycle import Pulse
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

SWEEP_LIMIT = 10_000
"""Silent jobs looked at in one sweep, the longest silence first; the rest has its turn in the next."""
ATTEMPTS = 3
"""How often a verdict is tried that deadlocked with somebody, before it is left for the next sweep."""
JOBS_AT_ONCE = 200
"""Looked at before others have their turn in the event loop; asked about in one statement."""

Look = Callable[[SilentJob, int], Awaitable[bool]]
"""Judges one job by the listening clock's reading; true if it is audible after all."""


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
        self._warned: dict[str, int] = {}
        self._put_off: set[str] = set()
        self._never_heard: set[str] = set()
        self.failed = 0
        self.put_off = 0
        self.sweep_seconds = Distribution(SWEEP_BOUNDS)

    @property
    def silent(self) -> int:
        """Jobs that were silent at the last sweep."""
        return len(self._warned)

    @property
    def never_heard(self) -> int:
        return len(self._never_heard)

    async def run(self, interval: float) -> None:
        """Sweep at once and every `interval` seconds, for ever: a hub that crash-loops still finds the dead.

        A database that is away costs a sweep, not the daemon.
        """
        while True:
            begun = self._clock.monotonic()
            try:
                await self.sweep()
                self.sweep_seconds.add(self._clock.monotonic() - begun)
            except DatabaseError as error:
                self.put_off += 1
                log.debug(fields("sweep for silent jobs put off", reason=error))
            self._pulse.beat()
            await asyncio.sleep(interval)

    async def sweep(self) -> None:
        reading_us = await self._listening.advance()
        self._pulse.beat()
        before = reading_before(reading_us, self._thresholds.warn)
        found, never = await self._database.run(
            lambda session: (session.silent_jobs(before, SWEEP_LIMIT), session.never_heard_jobs(SWEEP_LIMIT))
        )
        self._pulse.beat()
        await self._see_unseen(reading_us)
        self._pulse.beat()
        audible = {job.job_id for job in await self._each(found, self._look_at, reading_us)}
        await self._tell_ended(self._warned.keys() - {job.job_id for job in found} | audible, reading_us)
        self._tell_never_heard(never)
        if self._fail_never_heard:
            await self._each(never, self._look_at_never_heard, reading_us)
        self._put_off &= {job.job_id for job in [*found, *never]}

    async def _see_unseen(self, reading_us: int) -> None:
        try:
            await self._database.run(lambda session: session.see_unseen_jobs(reading_us))
        except (RowLocked, DatabaseConflict) as error:
            log.debug(fields("unseen jobs are left for the next sweep", reason=error))

    async def _each(self, jobs: list[SilentJob], look: Look, reading_us: int) -> list[SilentJob]:
        """Look at each; those that are audible after all. Whoever answers senders has turns in between."""
        audible = []
        for number, job in enumerate(jobs, 1):
            if await self._looked_at(job, look, reading_us):
                audible.append(job)
            if number % JOBS_AT_ONCE == 0:
                self._pulse.beat()
                await asyncio.sleep(0)
        return audible

    async def _looked_at(self, job: SilentJob, look: Look, reading_us: int) -> bool:
        """A row that throws, or that another program holds, does not stop the sweep; it is complained of once."""
        try:
            audible = await look(job, reading_us)
        except (RowLocked, DatabaseConflict) as error:
            if job.job_id not in self._put_off:
                log.warning(fields("verdict put off: another program holds the row", job=job.job_id, reason=error))
        except DatabaseError:
            raise
        except Exception:
            if job.job_id not in self._put_off:
                log.exception(fields("cannot judge the silence of a job; the sweep goes on", job=job.job_id))
        else:
            self._put_off.discard(job.job_id)
            return audible
        self._put_off.add(job.job_id)
        return False

    async def _look_at(self, job: SilentJob, reading_us: int) -> bool:
        """Warn of it or fail it; whether it is audible after all."""
        verdict = judge(self._unwritten.later_of(job.job_id, job.heard_us or 0), reading_us, self._thresholds)
        if verdict.standing == "lost":
            await self._fail(job, verdict, reading_us)
        elif verdict.standing == "silent":
            self._warn_once(job, verdict)
        return verdict.standing == "fresh"

    def _warn_once(self, job: SilentJob, verdict: Verdict) -> None:
        """Once per silence: another reading at the last receipt means that it was heard in between."""
        if self._warned.get(job.job_id) != job.heard_us:
            log.warning(fields("job is silent", job=job.job_id, silent_seconds=round(verdict.silence_seconds)))
        self._warned[job.job_id] = job.heard_us or 0

    async def _fail(self, job: SilentJob, verdict: Verdict, reading_us: int) -> None:
        """Takes effect only if the guarded UPDATE finds the job still running and still silent."""
        now = self._clock.wall()
        since_heard = now - job.last_telemetry_at if job.last_telemetry_at is not None else 0.0
        text = message(max(since_heard, verdict.silence_seconds))
        before = reading_before(reading_us, self._thresholds.fail)
        if await self._done(lambda session: session.fail_silent(job, before, now, text)):
            self.failed += 1
            self._warned.pop(job.job_id, None)
            log.error(fields("job failed by the watchdog", job=job.job_id, reason=text))
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

    async def _tell_ended(self, ended: set[str], reading_us: int) -> None:
        """What became of jobs that were warned of and are silent no longer: heard again, ended, or failed elsewhere."""
        told = sorted(ended & self._warned.keys())
        for first in range(0, len(told), JOBS_AT_ONCE):
            some = told[first : first + JOBS_AT_ONCE]
            views = await self._views(some)
            for job_id in some:
                self._tell_end_of_silence(job_id, views.get(job_id), reading_us)

    async def _views(self, job_ids: list[str]) -> dict[str, JobView]:
        self._pulse.beat()
        return await self._database.run(lambda session: session.views(job_ids))

    def _tell_end_of_silence(self, job_id: str, view: JobView | None, reading_us: int) -> None:
        since_us = self._warned.pop(job_id)
        heard_us = view.job.heard_us if view is not None else None
        until_us = heard_us if heard_us is not None and heard_us > since_us else reading_us
        status = view.job.status if view is not None else "deleted"
        seconds = round((until_us - since_us) / 1e6)
        log.info(fields("job is silent no longer", job=job_id, status=status, silent_seconds=seconds))

    def _tell_never_heard(self, jobs: list[SilentJob]) -> None:
        """Jobs of older clients: said once."""
        known, self._never_heard = self._never_heard, {job.job_id for job in jobs}
        for job_id in sorted(self._never_heard - known):
            log.info(fields("running job has never sent telemetry", job=job_id))

    async def _look_at_never_heard(self, job: SilentJob, reading_us: int) -> bool:
        """Fail it by its start, once a hub has seen it for long enough; whether it is audible after all."""
        seen_us = self._unwritten.later_of(job.job_id, reading_us if job.heard_us is None else job.heard_us)
        verdict = judge(seen_us, reading_us, self._thresholds)
        if job.started_at is not None and verdict.standing == "lost":
            since_start = self._clock.wall() - job.started_at
            await self._fail(job, Verdict("lost", max(since_start, verdict.silence_seconds)), reading_us)
        return verdict.standing == "fresh"
