"""Broken hubs. A function gives what it puts in the place of what."""

import asyncio
from typing import Any

from msgspec import UNSET, structs

from sha_daemon import batch, receiving, receiving_batch, silence, transitions, unwritten, watchdog
from sha_daemon.batch import Outcome as Stored
from sha_daemon.ingest import Ingest
from sha_daemon.records import Job
from testbed.memory_session import MemorySession
from testbed.memory_tables import Listening, as_stored

Patch = tuple[object, str, object]
"""In which object (a module, a class) what is replaced by what."""


def no_seq_guard() -> list[Patch]:
    real = transitions.decide
    return [(batch, "decide", lambda job, update, receipt: real(structs.replace(job, seq=None), update, receipt))]


def verdict_of_last_sweep() -> list[Patch]:
    """Reads whom to fail, and writes it down a while later, whatever has happened since."""
    real = watchdog.StaleWatchdog._fail

    async def fail(self: watchdog.StaleWatchdog, *arguments: Any, **more: Any) -> None:
        await asyncio.sleep(20.0)
        await real(self, *arguments, **more)

    def fail_silent(self: MemorySession, job_id: str, heard_before_us: int, at: float, text: str) -> bool:
        job = self._tables.jobs[job_id].job
        mark = structs.replace(job, status="failed", completed_at=at, error_message=text)
        self._change(job_id, as_stored(structs.replace(mark, watchdog_failed_at=at, watchdog_message=text)))
        return True

    return [(watchdog.StaleWatchdog, "_fail", fail), (MemorySession, "fail_silent", fail_silent)]


def counts_its_own_outage() -> list[Patch]:
    def advance(self: MemorySession, own_us: int) -> int:
        before = self._tables.listening
        passed = max(0, round((self._now - before.advanced_at) * 1e6))
        self._tables.put_listening(Listening(before.listened_us + passed, self._now))
        return self._tables.listening.listened_us

    return [(MemorySession, "advance_listening", advance)]


def silence_by_the_wall_clock() -> list[Patch]:
    async def look_at(self: watchdog.StaleWatchdog, job: Job, reading_us: int) -> None:
        seconds = self._clock.wall() - (job.last_telemetry_at or self._clock.wall())
        if seconds > self._thresholds.fail:
            verdict = silence.judge(0, round(seconds * 1e6), self._thresholds)
            await self._fail(job, verdict, reading_us + 2**60, since=job.last_telemetry_at or 0.0)

    return [(watchdog.StaleWatchdog, "_look_at", look_at)]


def answers_before_the_commit() -> list[Patch]:
    real = Ingest.submit_all

    async def submit_all(self: Ingest, updates: Any) -> Any:
        asyncio.get_running_loop().create_task(real(self, updates))
        return [Stored(result="applied", seq=update.seq or None, job_status=update.status) for _, update, _ in updates]

    return [(Ingest, "submit_all", submit_all)]


def bytes_as_reported() -> list[Patch]:
    real = transitions._apply_figures

    def apply(job: Job, update: Any, receipt: Any) -> Job:
        said = update.bytes_transferred
        after = real(job, update, receipt)
        return after if said is UNSET else structs.replace(after, bytes_transferred=said)

    return [(transitions, "_apply_figures", apply)]


def every_failure_is_revocable() -> list[Patch]:
    return [(transitions, "failed_by_watchdog", lambda job: job.status == "failed")]


def unread_is_new() -> list[Patch]:
    return [(module, "aged", lambda update, seconds: update) for module in (receiving, receiving_batch)]


def deaf_while_in_trouble() -> list[Patch]:
    return [
        (unwritten.Unwritten, "heard", lambda self, job_ids, reading_us: None),
        (unwritten.Unwritten, "is_under_way", lambda self, job_id: False),
    ]


def each_update_by_itself() -> list[Patch]:
    """Of a transaction: it sees the job as that found it, not as the update before it left it."""
    real = batch._Work.take

    def take(self: batch._Work, arrival: batch.Arrival) -> Stored:
        so_far, self._jobs = self._jobs, dict(self._before)
        outcome = real(self, arrival)
        self._jobs = so_far | {job_id: job for job_id, job in self._jobs.items() if job is not self._before[job_id]}
        return outcome

    return [(batch._Work, "take", take)]


def overtaken_leaves_no_sample() -> list[Patch]:
    real = transitions._not_newer
    return [(transitions, "_not_newer", lambda *arguments: structs.replace(real(*arguments), sample=None))]


def samples_as_of_receipt() -> list[Patch]:
    real = transitions._sample
    return [
        (
            transitions,
            "_sample",
            lambda job, update, receipt: structs.replace(real(job, update, receipt), at=receipt.at),
        )
    ]


def begins_with_every_message() -> list[Patch]:
    real = transitions._apply_status

    def apply(job: Job, update: Any, receipt: Any) -> Job:
        return real(structs.replace(job, started_at=None), update, receipt)

    return [(transitions, "_apply_status", apply)]


def ends_without_its_error() -> list[Patch]:
    real = transitions._fail

    def fail(job: Job, status: Any, update: Any, at: float) -> Job:
        return structs.replace(real(job, status, update, at), error_message=job.error_message)

    return [(transitions, "_fail", fail)]


def revived_keeps_the_verdict() -> list[Patch]:
    real = transitions._without_mark
    return [
        (transitions, "_without_mark", lambda job: structs.replace(real(job), error_message=job.error_message)),
    ]
