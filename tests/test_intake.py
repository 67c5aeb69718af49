"""From lines to the outbox, with virtual time: what is kept, when, why, and what is answered."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from msgspec import UNSET

from sbc_daemon.config import CadenceSettings
from sbc_daemon.intake import MAX_PENDING, Intake
from sbc_daemon.message import Message
from sbc_daemon.outbox import JobRecord, OutboxFull
from sbc_daemon.sequence import Sequence as Numbers
from sbc_daemon.spooler import Spooler
from sbc_daemon.tracker import LineRefused
from telemetry_common.contract import AttachedDisks, DiskReport, ErrorInfo, Line
from telemetry_common.lifecycle import Pulse
from testbed.memory_outbox import MemoryOutbox
from tests.support.virtual_clock import VirtualClock, run_virtual


class WatchedOutbox(MemoryOutbox):
    """The twin, and what it was asked. `full` refuses those jobs; `slow` holds each write for so many seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[list[Message], bool]] = []
        self.full: set[str] = set()
        self.slow = 0.0

    async def keep(self, messages: Sequence[Message], records: Sequence[JobRecord], *, synced: bool) -> None:
        await asyncio.sleep(self.slow)
        if self.full & {record.job_id for record in records}:
            raise OutboxFull("cannot keep the message: the disk is full")
        self.writes.append((list(messages), synced))
        await super().keep(messages, records, synced=synced)

    @property
    def kept(self) -> list[Message]:
        return [message for messages, _ in self.writes for message in messages]

    @property
    def reasons(self) -> list[str]:
        return [message.reason for message in self.kept]


class Answers:
    def __init__(self) -> None:
        self.said: list[tuple[str | int, str | None]] = []

    def answer(self, ack: str | int, error: str | None) -> None:
        self.said.append((ack, error))


class World:
    def __init__(self, clock: VirtualClock, outbox: WatchedOutbox) -> None:
        self.clock = clock
        self.outbox = outbox
        self.answers = Answers()
        self.woken: list[str] = []
        spooler = Spooler(outbox, Numbers(clock), clock, self.woken.append)
        self.intake = Intake(clock, spooler, CadenceSettings(), Pulse("intake", 60.0, clock))

    def says(self, job_id: str = "j1", share: AttachedDisks | None = None, **fields: Any) -> None:
        self.intake.accept(job_id, Line(**fields), self.answers, share)
        self.intake.settle()


def in_virtual_time(story: Callable[[World], Awaitable[None]], outbox: WatchedOutbox | None = None) -> World:
    clock = VirtualClock()
    world = World(clock, outbox or WatchedOutbox())

    async def run() -> None:
        await world.outbox.open()
        task = asyncio.create_task(world.intake.run())
        await story(world)
        await world.intake.finish()
        await task

    run_virtual(run(), clock)
    return world


def test_state_changes_are_written_synced_and_progress_is_not() -> None:
    async def story(world: World) -> None:
        world.says(bytes_transferred=1)
        await asyncio.sleep(1)
        world.says(bytes_transferred=2)
        await asyncio.sleep(10)

    outbox = in_virtual_time(story).outbox
    assert [(messages[0].reason, messages[0].kind, synced) for messages, synced in outbox.writes] == [
        ("first line", "state", True),
        ("interval", "progress", False),
    ]


def test_a_value_that_had_to_wait_is_sent_when_its_seconds_are_over() -> None:
    async def story(world: World) -> None:
        world.says(bytes_transferred=1)
        await asyncio.sleep(1)
        world.says(bytes_transferred=2)
        await asyncio.sleep(60)

    kept = in_virtual_time(story).outbox.kept
    assert [(message.update.bytes_transferred, message.taken.boot) for message in kept] == [(1, 0.0), (2, 5.0)]


def test_what_waits_together_is_written_together() -> None:
    async def story(world: World) -> None:
        for number in range(100):
            world.says(f"job-{number}", status="running", ack=number)
        await asyncio.sleep(1)

    world = in_virtual_time(story)
    assert [len(messages) for messages, _ in world.outbox.writes] == [100]
    assert world.answers.said == [(number, None) for number in range(100)]


def test_every_state_change_is_kept_in_order_with_growing_numbers() -> None:
    async def story(world: World) -> None:
        for phase in ("snapshot", "transferring", "finalizing"):
            world.says(current_phase=phase)
        world.says(status="completed")
        await asyncio.sleep(1)

    kept = in_virtual_time(story).outbox.kept
    assert [message.reason for message in kept] == ["first line", "phase", "phase", "end"]
    assert [message.final for message in kept] == [False, False, False, True]
    assert [message.seq for message in kept] == sorted({message.seq for message in kept})


def test_progress_that_a_state_change_overtook_is_not_written_after_it() -> None:
    outbox = WatchedOutbox()
    outbox.slow = 0.5

    async def story(world: World) -> None:
        world.says(total_bytes=100, bytes_transferred=0)
        await asyncio.sleep(0.1)
        world.says(bytes_transferred=50)
        world.says(current_phase="finalizing")
        await asyncio.sleep(2)

    assert in_virtual_time(story, outbox).outbox.reasons == ["first line", "phase"]


def test_an_ack_is_answered_only_after_the_write() -> None:
    outbox = WatchedOutbox()
    outbox.slow = 3.0

    async def story(world: World) -> None:
        world.says(status="running", ack="a")
        await asyncio.sleep(2.9)
        assert world.answers.said == []
        await asyncio.sleep(0.2)
        assert world.answers.said == [("a", None)]

    in_virtual_time(story, outbox)


def test_progress_with_an_ack_is_safe_though_no_message_is_due() -> None:
    async def story(world: World) -> None:
        world.says(bytes_transferred=1)
        await asyncio.sleep(1)
        world.says(bytes_transferred=2, ack=7)
        await asyncio.sleep(1)
        assert world.answers.said == [(7, None)]
        assert world.outbox.writes[-1] == ([], True)

    world = in_virtual_time(story)
    restarted = World(world.clock, WatchedOutbox())
    restarted.intake.restore(reopened(world.outbox))
    memory = restarted.intake.jobs.get("j1")
    assert memory is not None
    assert memory.state.bytes_transferred == 2


def reopened(outbox: MemoryOutbox) -> Sequence[JobRecord]:
    async def again() -> Sequence[JobRecord]:
        await outbox.close()
        return (await outbox.open()).jobs

    return asyncio.run(again())


def test_what_was_not_yet_worth_a_message_is_sent_after_a_restart() -> None:
    async def before(world: World) -> None:
        world.says(bytes_transferred=1)
        await asyncio.sleep(1)
        world.says(bytes_transferred=2)

    records = reopened(in_virtual_time(before).outbox)

    async def after(world: World) -> None:
        world.intake.restore(records)
        await asyncio.sleep(10)

    kept = in_virtual_time(after).outbox.kept
    assert [(message.reason, message.update.bytes_transferred) for message in kept] == [("interval", 2)]


def test_of_an_ended_job_little_is_remembered() -> None:
    async def story(world: World) -> None:
        disks = tuple(DiskReport(disk_index=n, bytes_transferred=10, total_bytes=20) for n in range(200))
        world.says(disks=disks, current_phase="transferring")
        world.says(status="failed", error=ErrorInfo("no space left " * 4000))
        await asyncio.sleep(1)

    world = in_virtual_time(story)
    (kept,) = [memory.state for memory in world.intake.jobs.latest_ended(9)]
    assert (kept.status, kept.bytes_transferred, kept.total_bytes, kept.percent) == ("failed", 2000, 4000, 50.0)
    (record,) = reopened(world.outbox)
    assert len(record.snapshot) < 500


def test_after_a_restart_an_ended_job_is_still_ended() -> None:
    async def before(world: World) -> None:
        world.says(status="completed")

    records = reopened(in_virtual_time(before).outbox)

    async def after(world: World) -> None:
        world.intake.restore(records)
        with pytest.raises(LineRefused, match="ended as completed"):
            world.says(bytes_transferred=1)

    assert in_virtual_time(after).outbox.kept == []


def test_a_record_that_cannot_be_read_stops_nothing() -> None:
    async def story(world: World) -> None:
        world.intake.restore([JobRecord(job_id="torn", snapshot=b'{"job_', ended=False)])
        world.says("torn", bytes_transferred=1)

    assert in_virtual_time(story).outbox.reasons == ["first line"]


def test_a_full_outbox_is_told_to_the_one_it_concerns_and_to_no_other() -> None:
    outbox = WatchedOutbox()
    outbox.full = {"poor"}

    async def story(world: World) -> None:
        world.says("poor", status="running", ack=1)
        world.says("rich", status="running", ack=2)
        await asyncio.sleep(1)

    world = in_virtual_time(story, outbox)
    assert dict(world.answers.said) == {1: "cannot keep the message: the disk is full", 2: None}
    assert [message.job_id for message in outbox.kept] == ["rich"]
    assert sorted(world.woken) == ["poor", "rich"]


def test_after_a_full_disk_the_next_message_carries_everything() -> None:
    outbox = WatchedOutbox()
    outbox.full = {"j1"}

    async def story(world: World) -> None:
        world.says(current_phase="snapshot", bytes_transferred=1)
        await asyncio.sleep(1)
        outbox.full = set()
        world.says(status="completed")

    kept = in_virtual_time(story, outbox).outbox.kept
    assert [(message.update.status, message.update.current_phase) for message in kept] == [("completed", "snapshot")]


def test_a_living_attached_producer_gets_heartbeats_with_its_silence() -> None:
    async def story(world: World) -> None:
        world.says(current_phase="snapshot")
        world.intake.attached("j1")
        await asyncio.sleep(11)

    kept = in_virtual_time(story).outbox.kept
    assert [(message.reason, message.update.idle_seconds) for message in kept[1:]] == [
        ("heartbeat", 5.0),
        ("heartbeat", 10.0),
    ]


def test_a_job_that_becomes_unattached_says_so_once_and_gets_no_more_heartbeats() -> None:
    async def story(world: World) -> None:
        world.says(current_phase="snapshot")
        world.intake.attached("j1")
        await asyncio.sleep(7)
        world.intake.detached("j1")
        await asyncio.sleep(600)

    kept = in_virtual_time(story).outbox.kept
    assert [(message.taken.boot, message.update.idle_seconds) for message in kept[1:]] == [(5.0, 5.0), (10.0, UNSET)]


def test_a_dead_producer_fails_its_job_at_once() -> None:
    async def story(world: World) -> None:
        world.says(status="running")
        world.intake.producer_ended("j1", 4711, None)

    end = in_virtual_time(story).outbox.kept[-1]
    assert (end.update.status, end.final) == ("failed", True)
    assert end.update.error
    assert end.update.error.message == "backup process (pid 4711) ended without reporting an outcome"


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_an_end_that_was_reported_stands(status: str) -> None:
    async def story(world: World) -> None:
        world.says(status=status)
        world.intake.producer_ended("j1", 4711, None)

    assert [message.update.status for message in in_virtual_time(story).outbox.kept] == [status]


def test_a_dead_producer_of_one_disk_fails_that_disk_and_the_job_with_the_last() -> None:
    first, second = AttachedDisks((0,), 2), AttachedDisks((1,), 2)

    async def story(world: World) -> None:
        world.says(share=first, bytes_transferred=1)
        world.says(share=second, bytes_transferred=1)
        world.intake.producer_ended("j1", 4711, first)
        await asyncio.sleep(1)
        world.says(share=second, status="completed")

    kept = in_virtual_time(story).outbox.kept
    assert kept[-2].update.status == "running"
    assert disk_statuses(kept[-2]) == ["failed", "running"]
    assert kept[-1].update.status == "failed"
    assert disk_statuses(kept[-1]) == ["failed", "completed"]
    assert kept[-1].update.error
    assert "(pid 4711)" in kept[-1].update.error.message


def test_a_job_whose_other_process_never_came_is_left_to_the_hub_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It may come yet: disks are also copied one after the other."""
    first = AttachedDisks((0,), 2)

    async def story(world: World) -> None:
        world.says(share=first, status="running")
        world.intake.attached("j1")
        world.says(share=first, status="completed")
        world.intake.detached("j1")
        await asyncio.sleep(3600)

    caplog.set_level("INFO")
    kept = in_virtual_time(story).outbox.kept
    assert {message.update.status for message in kept} == {"running"}
    assert kept[-1].update.idle_seconds is UNSET
    assert "job waits for its other disks job=j1 ended=1 of=2" in caplog.text


def test_heartbeats_go_on_after_a_restart_with_the_silence_of_before() -> None:
    async def before(world: World) -> None:
        world.says(current_phase="snapshot")
        world.intake.attached("j1")
        await asyncio.sleep(11)

    records = reopened(in_virtual_time(before).outbox)

    async def after(world: World) -> None:
        await asyncio.sleep(30)
        world.intake.restore(records)
        world.intake.attached("j1")
        await asyncio.sleep(6)

    kept = in_virtual_time(after).outbox.kept
    assert [(message.reason, message.update.idle_seconds) for message in kept] == [("heartbeat", 35.0)]


def disk_statuses(message: Message) -> list[object]:
    disks: tuple[DiskReport, ...] = message.update.disks or ()
    return [disk.status for disk in disks]


def test_a_job_with_another_living_producer_is_not_failed() -> None:
    async def story(world: World) -> None:
        world.says(status="running")
        world.intake.attached("j1")
        world.intake.producer_ended("j1", 4711, None)

    assert in_virtual_time(story).outbox.reasons == ["first line"]


def test_a_flood_of_state_changes_stops_the_reading_until_the_disk_has_caught_up() -> None:
    outbox = WatchedOutbox()
    outbox.slow = 1.0
    resumed = []

    async def story(world: World) -> None:
        for number in range(MAX_PENDING):
            world.says(current_phase=f"phase {number}")
        assert world.intake.crowded
        world.intake.when_clear(lambda: resumed.append(world.clock.now))
        await asyncio.sleep(3)
        assert not world.intake.crowded

    kept = in_virtual_time(story, outbox).outbox.kept
    assert resumed == [1.0]
    assert [message.update.current_phase for message in kept] == [f"phase {number}" for number in range(MAX_PENDING)]
