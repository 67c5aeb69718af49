"""What becomes of a batch that the outbox refuses as a whole; in virtual time."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from sbc_daemon.cadence import Reason
from sbc_daemon.message import Message
from sbc_daemon.outbox import JobRecord, OutboxFull
from sbc_daemon.pending import Ack, Draft, Pending
from sbc_daemon.sequence import Sequence as Numbers
from sbc_daemon.spooler import QUIET_SECONDS, Spooler
from testbed.memory_outbox import MemoryOutbox
from tests.support.messages import message, record
from tests.support.virtual_clock import VirtualClock, run_virtual

FLOOD = [f"flood-{n}" for n in range(10_000)]


class Outbox(MemoryOutbox):
    """The twin, at its cap for jobs of `refused`; each write takes `slow` seconds."""

    def __init__(self, refused: Sequence[str]) -> None:
        super().__init__()
        self.refused = set(refused)
        self.slow = 0.0
        self.writes = 0
        self.kept: list[str] = []

    async def keep(self, messages: Sequence[Message], records: Sequence[JobRecord], *, synced: bool) -> None:
        self.writes += 1
        await asyncio.sleep(self.slow)
        if any(one.job_id in self.refused for one in messages):
            self._spilled.hold(messages)
            raise OutboxFull("cannot keep the message: the outbox is at its cap")
        self.kept += [one.job_id for one in messages]
        await super().keep(messages, records, synced=synced)


class World:
    def __init__(self, refused: Sequence[str]) -> None:
        self.clock = VirtualClock()
        self.outbox = Outbox(refused)
        self.answers: dict[str | int, str | None] = {}
        self.woken: set[str] = set()
        self.beats: list[float] = []
        self.pending = Pending()
        self._spooler = Spooler(
            self.outbox,
            Numbers(self.clock),
            self.clock,
            self.woken.add,
            lambda: self.beats.append(self.clock.now),
        )

    def answer(self, ack: str | int, error: str | None) -> None:
        self.answers[ack] = error

    def says(self, job_id: str, reason: Reason = "first line") -> None:
        made = message(job=job_id, final=reason == "end")
        self.pending.add(Draft(job_id, made.update, reason, made.taken))
        self.pending.add_ack(Ack(job_id, job_id, self))

    def spools(self) -> None:
        run_virtual(self._spooler.spool(self.pending, record), self.clock)


def test_a_flood_that_is_refused_takes_few_writes_and_everybody_is_told() -> None:
    world = World(FLOOD)
    for job_id in FLOOD:
        world.says(job_id)
    world.spools()
    assert world.outbox.writes < 30
    assert len(world.answers) == len(FLOOD)
    assert None not in world.answers.values()
    assert world.woken == set(FLOOD)


def test_ends_and_known_jobs_are_kept_though_a_flood_is_refused() -> None:
    world = World(FLOOD)
    for job_id in FLOOD:
        world.says(job_id)
    world.says("known", "phase")
    world.says("over", "end")
    world.spools()
    assert world.outbox.kept == ["over", "known"]
    assert [job_id for job_id, error in world.answers.items() if error is None] == ["over", "known"]


def test_one_job_that_is_refused_costs_no_other() -> None:
    world = World([FLOOD[4711]])
    for job_id in FLOOD:
        world.says(job_id)
    world.spools()
    assert len(world.outbox.kept) == len(FLOOD) - 1
    assert [job_id for job_id, error in world.answers.items() if error is not None] == [FLOOD[4711]]


def test_what_was_refused_unwritten_still_goes_out_from_memory() -> None:
    world = World(FLOOD)
    for job_id in FLOOD:
        world.says(job_id)
    world.spools()
    assert set(asyncio.run(world.outbox.waiting())) == set(FLOOD)


def test_the_pulse_beats_between_writes() -> None:
    world = World(FLOOD)
    world.outbox.slow = 5.0
    for job_id in FLOOD:
        world.says(job_id)
    world.spools()
    assert world.beats == [5.0 * n for n in range(world.outbox.writes)]


def test_answers_come_in_the_order_of_the_questions() -> None:
    world = World([])
    world.says("a")
    world.says("b")
    world.pending.add_ack(Ack("a", "again", world))
    world.spools()
    assert list(world.answers) == ["a", "b", "again"]


def test_a_full_outbox_is_two_lines_in_the_journal_though_some_is_kept_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    world = World(["poor"])
    for _ in range(10):
        for job_id in ("poor", "rich"):
            world.says(job_id)
            world.spools()
    world.clock.now += QUIET_SECONDS
    world.says("rich")
    world.spools()
    refuses, takes = [one.getMessage() for one in caplog.records]
    assert refuses.startswith("outbox refuses messages; the newest of each job stays in memory reason=")
    assert takes == "outbox takes messages again refused=10"
