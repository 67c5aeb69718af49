"""The sweep for silent jobs: warn once per silence, fail the lost by one guarded UPDATE, say when one is heard again.

The rule itself is `silence`; time is the listening clock's. Several hubs on one database may sweep at once.
"""

import asyncio
import logging
from collections.abc import Callable

from sha_daemon.database import Database, DatabaseError, RowLocked
from sha_daemon.listening import ListeningClock
from sha_daemon.records import SilentJob
from sha_daemon.silence import Thresholds, Verdict, judge, message, reading_before
from sha_daemon.tally import SWEEP_BOUNDS, Distribution
from telemetry_common.clock import Clock
from telemetry_common.lifecycle import Pulse
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

SWEEP_LIMIT = 10_000
"""Silent jobs looked at in one sweep, the longest silence first; the rest has its turn in the next."""


class StaleWatchdog:
    def __init__(
        self,
        database: Database,
        listening: ListeningClock,
        clock: Clock,
        thresholds: Thresholds,
        *,
        fail_never_heard: bool,
        pulse: Pulse,
        failed: Callable[[str], None] | None = None,
    ) -> None:
        """`failed` is called with the id of each job that the watchdog has failed."""
        self._database = database
        self._listening = listening
        self._clock = clock
        self._thresholds = thresholds
        self._fail_never_heard = fail_never_heard
        self._pulse = pulse
        self._on_failed = failed
        self._warned: dict[str, int] = {}
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
        before = reading_before(reading_us, self._thresholds.warn)
        silent = await self._database.run(lambda session: session.silent_jobs(before, SWEEP_LIMIT))
        await self._see_unseen(reading_us)
        never = await self._database.run(lambda session: session.never_heard_jobs(SWEEP_LIMIT))
        for job in silent:
            await self._look_at(job, reading_us)
        self._tell_heard_again({job.job_id for job in silent})
        await self._look_at_never_heard(never, reading_us)

    async def _see_unseen(self, reading_us: int) -> None:
        try:
            await self._database.run(lambda session: session.see_unseen_jobs(reading_us))
        except RowLocked as error:
            log.debug(fields("unseen jobs are left for the next sweep", reason=error))

    async def _look_at(self, job: SilentJob, reading_us: int) -> None:
        """Judge one job. A row that throws, or that another program holds, does not stop the sweep."""
        try:
            verdict = judge(job.heard_us or 0, reading_us, self._thresholds)
            if verdict.standing == "lost":
                await self._fail(job, verdict, reading_us)
            elif verdict.standing == "silent":
                self._warn_once(job, verdict)
        except RowLocked as error:
            log.warning(fields("verdict put off: another program holds the row", job=job.job_id, reason=error))
        except DatabaseError:
            raise
        except Exception:
            log.exception(fields("cannot judge the silence of a job; the sweep goes on", job=job.job_id))

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
        failed = await self._database.run(lambda session: session.fail_silent(job, before, now, text))
        if failed:
            self.failed += 1
            self._warned.pop(job.job_id, None)
            log.error(fields("job failed by the watchdog", job=job.job_id, reason=text))
            if self._on_failed is not None:
                self._on_failed(job.job_id)

    def _tell_heard_again(self, silent: set[str]) -> None:
        for job_id in self._warned.keys() - silent:
            del self._warned[job_id]
            log.info(fields("job is silent no longer", job=job_id))

    async def _look_at_never_heard(self, jobs: list[SilentJob], reading_us: int) -> None:
        """Jobs of older clients: said once; failed only if configured, by their start, in time that was listened to."""
        known, self._never_heard = self._never_heard, {job.job_id for job in jobs}
        for job in jobs:
            if job.job_id not in known:
                log.info(fields("running job has never sent telemetry", job=job.job_id))
            seen = judge(reading_us if job.heard_us is None else job.heard_us, reading_us, self._thresholds)
            if self._fail_never_heard and job.started_at is not None and seen.standing == "lost":
                since_start = self._clock.wall() - job.started_at
                await self._fail(job, Verdict("lost", max(since_start, seen.silence_seconds)), reading_us)
