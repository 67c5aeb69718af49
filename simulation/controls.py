"""Negative controls: deliberately broken variants of the daemons, each of which the simulation must catch.

A control puts something in the place of the real thing for as long as a run lasts. What it breaks is mostly what some
respected system has really done to its users.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET, structs

from sbc_daemon import answers, carrier, message, pending
from sbc_daemon.answers import Answer, Outcome
from sbc_daemon.carrier import Carrier
from sbc_daemon.courier import STALE_AT_ONCE, Courier
from sbc_daemon.outbox import Entry
from sbc_daemon.outbox_memory import MemoryDisk, MemoryOutbox
from sha_daemon import batch, receiving, receiving_batch, silence, transitions, unwritten, watchdog
from sha_daemon.batch import Outcome as Stored
from sha_daemon.ingest import Ingest
from sha_daemon.records import Job
from simulation.invariants import AUDIBLE, BACKWARDS, DATED, LOST, OVERWRITTEN, STUCK
from testbed.memory_database import MemorySession
from testbed.memory_tables import Listening, as_stored

MakeOutbox = Callable[[int, MemoryDisk], MemoryOutbox]
Patch = tuple[object, str, object]
"""In which object (a module, a class) what is replaced by what."""


@dataclass(frozen=True)
class Control:
    """`caught_by`: the invariants that may find it; `seed`: a world of the commit tier in which one of them does."""

    name: str
    seed: str = "storm:0"
    caught_by: tuple[str, ...] = ()
    outbox: MakeOutbox = MemoryOutbox
    patches: Callable[[], list[Patch]] = field(default=list)

    @contextmanager
    def applied(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, instead in self.patches():
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, instead)
            yield


class _Unsynced(MemoryOutbox):
    async def keep(self, messages: Any, records: Any, *, synced: bool) -> None:
        await super().keep(messages, records, synced=False)


class _DropsNewest(MemoryOutbox):
    async def keep(self, messages: Any, records: Any, *, synced: bool) -> None:
        kept = [one for one in messages if len(self._disk.lanes.get(one.job_id, {})) < 3]
        await super().keep(kept, records, synced=synced)


class _ForgetsBeforeTheAnswer(MemoryOutbox):
    async def first(self, job_id: str) -> Entry | None:
        entry = await super().first(job_id)
        if entry is not None:
            await super().delivered(entry)
        return entry


class _ProgressFirst(MemoryOutbox):
    def _next(self, job_id: str) -> Entry | None:
        lane = [entry for entry in self._disk.lanes.get(job_id, {}).values() if entry not in self._owed]
        newest = next((entry for entry in lane if entry.message.kind == "progress"), None)
        return newest or super()._next(job_id)


def _no_seq_guard() -> list[Patch]:
    real = transitions.decide
    return [(batch, "decide", lambda job, update, receipt: real(structs.replace(job, seq=None), update, receipt))]


def _refused_for_good() -> list[Patch]:
    real = answers.judge

    def judge(answer: Answer, now_wall: float) -> Outcome:
        outcome = real(answer, now_wall)
        return structs.replace(outcome, verdict="reject") if answer.status == 500 else outcome

    return [(carrier, "judge", judge)]


def _retry_budget() -> list[Patch]:
    real, attempts = Carrier._not_delivered, dict[str, int]()

    async def not_delivered(self: Carrier, one: Any, started: float, *, probe: bool) -> None:
        key = f"{one.parcel.lane.job_id}/{one.parcel.entry.message.seq}"
        attempts[key] = attempts.get(key, 0) + 1
        if attempts[key] < 5:
            await real(self, one, started, probe=probe)
        else:
            await self._courier.delivered([(one.parcel.lane, one.parcel.entry, one.outcome)])

    return [(Carrier, "_not_delivered", not_delivered)]


def _verdict_of_the_last_sweep() -> list[Patch]:
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


def _counts_its_own_outage() -> list[Patch]:
    def advance(self: MemorySession, own_us: int) -> int:
        before = self._tables.listening
        passed = max(0, round((self._now - before.advanced_at) * 1e6))
        self._tables.put_listening(Listening(before.listened_us + passed, self._now))
        return self._tables.listening.listened_us

    return [(MemorySession, "advance_listening", advance)]


def _silence_by_the_wall_clock() -> list[Patch]:
    async def look_at(self: watchdog.StaleWatchdog, job: Job, reading_us: int) -> None:
        seconds = self._clock.wall() - (job.last_telemetry_at or self._clock.wall())
        if seconds > self._thresholds.fail:
            verdict = silence.judge(0, round(seconds * 1e6), self._thresholds)
            await self._fail(job, verdict, reading_us + 2**60, since=job.last_telemetry_at or 0.0)

    return [(watchdog.StaleWatchdog, "_look_at", look_at)]


def _answers_before_the_commit() -> list[Patch]:
    real = Ingest.submit_all

    async def submit_all(self: Ingest, updates: Any) -> Any:
        asyncio.get_running_loop().create_task(real(self, updates))
        return [Stored(result="applied", seq=update.seq or None, job_status=update.status) for _, update, _ in updates]

    return [(Ingest, "submit_all", submit_all)]


def _bytes_as_reported() -> list[Patch]:
    real = transitions._apply_figures

    def apply(job: Job, update: Any, receipt: Any) -> Job:
        said = update.bytes_transferred
        after = real(job, update, receipt)
        return after if said is UNSET else structs.replace(after, bytes_transferred=said)

    return [(transitions, "_apply_figures", apply)]


def _every_failure_can_be_taken_back() -> list[Patch]:
    return [(transitions, "failed_by_watchdog", lambda job: job.status == "failed")]


def _only_the_latest_state() -> list[Patch]:
    return [(pending.Draft, "is_state", False)]


def _told_as_of_now() -> list[Patch]:
    return [(message, "age_seconds", lambda then, now: 0.0)]


def _unread_is_new() -> list[Patch]:
    return [(module, "aged", lambda update, seconds: update) for module in (receiving, receiving_batch)]


def _stale_is_delivered() -> list[Patch]:
    return [(message.Message, "yields", True)]


def _given_up_when_stale() -> list[Patch]:
    real = Courier._worth_renumbering

    def worth_renumbering(self: Courier, one: Any) -> bool:
        if one[0].stale_answers > STALE_AT_ONCE:
            self._try_later(one[0])
            return False
        one[0].stale_answers += 1
        return real(self, one)

    return [(Courier, "_worth_renumbering", worth_renumbering)]


def _deaf_while_in_trouble() -> list[Patch]:
    return [
        (unwritten.Unwritten, "heard", lambda self, job_ids, reading_us: None),
        (unwritten.Unwritten, "is_under_way", lambda self, job_id: False),
    ]


NONE = Control("none")
CONTROLS = (
    Control("acknowledged before the sync", "storm:79", (LOST,), _Unsynced),
    Control("a full lane drops the newest", "storm:0", (LOST,), _DropsNewest),
    Control("forgotten before the answer", "storm:0", (LOST,), _ForgetsBeforeTheAnswer),
    Control("progress goes before states", "storm:0", (BACKWARDS, LOST), _ProgressFirst),
    Control("no guard by seq", "storm:0", (BACKWARDS,), patches=_no_seq_guard),
    Control("a 500 is for good", "storm:5", (LOST,), patches=_refused_for_good),
    Control("attempts are limited", "storm:0", (LOST,), patches=_retry_budget),
    Control("of states only the latest", "storm:20", (LOST,), patches=_only_the_latest_state),
    Control("stale means delivered", "storm:9", (LOST,), patches=_stale_is_delivered),
    Control("a lane is given up when it is stale", "storm:0", (STUCK, LOST), patches=_given_up_when_stale),
    Control("answered before the COMMIT", "storm:0", (LOST,), patches=_answers_before_the_commit),
    Control("bytes as they are reported", "storm:0", (BACKWARDS,), patches=_bytes_as_reported),
    Control("every failure can be taken back", "storm:38", (OVERWRITTEN,), patches=_every_failure_can_be_taken_back),
    Control("the watchdog reads, then writes", "storm:41", (OVERWRITTEN, AUDIBLE), patches=_verdict_of_the_last_sweep),
    Control("the watchdog counts its own outage", "storm:0", (AUDIBLE,), patches=_counts_its_own_outage),
    Control("silence by the wall clock", "storm:0", (AUDIBLE,), patches=_silence_by_the_wall_clock),
    Control("deaf while the database is in trouble", "storm:19", (AUDIBLE,), patches=_deaf_while_in_trouble),
    Control("old news is told as of now", "storm:0", (DATED,), patches=_told_as_of_now),
    Control("what lay unread is new", "storm:24", (DATED,), patches=_unread_is_new),
)
