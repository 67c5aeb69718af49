"""Lines that only say how far a job is take a short way: what becomes of them must be the same as on the long one.

A field that nobody knows is ignored, and sends any line the long way.
"""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbc_daemon.attachments import Attachments
from sbc_daemon.complaints import Complaints
from sbc_daemon.config import CadenceSettings
from sbc_daemon.conversation import LINES_AT_ONCE, MAX_LONG_WAY, MAX_UNWRITTEN, Conversation
from sbc_daemon.intake import Intake
from sbc_daemon.processes import Peer
from sbc_daemon.sequence import Sequence
from sbc_daemon.spooler import Spooler
from telemetry_common.contract import MAX_AMOUNT, MAX_DISKS, decode_progress
from telemetry_common.lifecycle import Pulse
from testbed.memory_outbox import MemoryOutbox
from tests.support.no_processes import NoProcesses
from tests.support.virtual_clock import VirtualClock, run_virtual

Said = dict[str, Any]

PEER = Peer(1000, 4711, None)
AMOUNTS = st.integers(0, 50) | st.just(MAX_AMOUNT)
DISKS = st.lists(
    st.fixed_dictionaries(
        {"disk_index": st.integers(0, 2)},
        optional={
            "bytes_transferred": AMOUNTS,
            "total_bytes": AMOUNTS,
            "progress_percent": st.floats(0, 200),
            "status": st.sampled_from(["pending", "transferring", "completed", "failed"]),
        },
    ),
    max_size=3,
)
FIGURES = {
    "job_id": st.sampled_from(["j1", "j2", "j3"]),
    "bytes_transferred": AMOUNTS,
    "total_bytes": AMOUNTS,
    "transfer_speed_bps": AMOUNTS,
    "eta_seconds": st.integers(0, 2**40),
    "progress_percent": st.floats(0, 200),
    "disks": DISKS,
}
MORE = {
    "status": st.sampled_from(["pending", "running", "running", "completed", "bogus"]),
    "current_phase": st.sampled_from(["snapshot", "transferring"]),
    "error": st.none() | st.just({"message": "tape full"}),
    "timestamp": st.just("2025-10-10T14:23:45Z"),
    "attach": st.just({"disks": [0], "of": 2}) | st.booleans(),
    "ack": st.integers(0, 9),
    "hello": st.just(1),
    "bytes_transferred": st.sampled_from([-1, "5", None, 2**63]),
}
PROGRESS: st.SearchStrategy[Said] = st.fixed_dictionaries({}, optional=FIGURES)
ANY: st.SearchStrategy[Said] = st.fixed_dictionaries({}, optional={**FIGURES, **MORE})
LINES = st.lists(PROGRESS | PROGRESS | PROGRESS | ANY, min_size=1, max_size=12)


class Outbox(MemoryOutbox):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[bytes] = []

    async def keep(self, messages: Any, records: Any, *, synced: bool) -> None:
        await super().keep(messages, records, synced=synced)
        self.kept.append(msgspec.json.encode((messages, records, synced)))


class Desk:
    """The receiving half of a sidecar, without sockets: all that can be seen of it afterwards is in `seen`."""

    def __init__(self, clock: VirtualClock) -> None:
        self.outbox = Outbox()
        self.answers = b""
        self.intake = Intake(
            clock,
            Spooler(self.outbox, Sequence(clock), clock, lambda _: None),
            CadenceSettings(),
            Pulse("intake", 60.0, clock),
        )
        self.bad = Complaints(clock)
        self._attachments = Attachments(NoProcesses(), self.intake, Complaints(clock))

    def connect(self) -> Conversation:
        return Conversation(self.intake, self._attachments, PEER, self.bad, self._answer)

    def _answer(self, data: bytes) -> None:
        self.answers += data

    def seen(self) -> object:
        jobs = {
            memory.state.job_id: (
                msgspec.json.encode(memory.state),
                memory.heard_at,
                memory.speed._samples,
                memory.reporters,
            )
            for memory in (*self.intake.jobs.running(), *self.intake.jobs.latest_ended(9))
        }
        return jobs, self.outbox.kept, self.answers, self.intake.lines, self.bad.total


def told(reads: list[tuple[float, list[Said]]], more: Said) -> object:
    """What is seen of a desk that was told this over one connection, each read after so many seconds."""
    clock = VirtualClock()
    desk = Desk(clock)

    async def story() -> None:
        await desk.outbox.open()
        running = asyncio.create_task(desk.intake.run())
        producer = desk.connect()
        for pause, lines in reads:
            await asyncio.sleep(pause)
            producer.feed(b"".join(msgspec.json.encode({**line, **more}) + b"\n" for line in lines))
        producer.finish()
        await desk.intake.finish()
        await running

    run_virtual(story(), clock)
    return desk.seen()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 6.0]), LINES), min_size=1, max_size=6))
def test_the_short_way_leads_where_the_long_way_does(reads: list[tuple[float, list[Said]]]) -> None:
    assert told(reads, {}) == told(reads, {"nobody knows": 1})


def test_lines_of_progress_do_take_the_short_way() -> None:
    taken = decode_progress(b'{"job_id":"j1","bytes_transferred":5,"disks":[{"disk_index":0,"total_bytes":9}]}')
    assert taken is not None
    assert taken.bytes_transferred == 5


@pytest.mark.parametrize("more", [b'"status":"running"', b'"ack":1', b'"attach":true', b'"error":null', b'"x":0'])
def test_a_line_that_says_more_does_not(more: bytes) -> None:
    assert decode_progress(b'{"job_id":"j1","bytes_transferred":5,%s}' % more) is None


async def test_disks_beyond_what_can_be_followed_are_refused_on_both_ways() -> None:
    desk = Desk(VirtualClock())
    producer = desk.connect()
    for start in (0, MAX_DISKS // 2, MAX_DISKS):
        disks = [{"disk_index": start + number} for number in range(MAX_DISKS // 2)]
        producer.feed(msgspec.json.encode({"job_id": "j1", "disks": disks}) + b"\n")
    memory = desk.intake.jobs.get("j1")
    assert memory is not None
    assert len(memory.state.disks) == MAX_DISKS
    assert desk.bad.total == 1


async def test_a_turn_has_an_end_whatever_is_sent() -> None:
    desk = Desk(VirtualClock())
    producer = desk.connect()
    producer.feed(b"bad\n" * 2000)
    turns = 1
    while producer.behind:
        assert desk.bad.total <= turns * (MAX_LONG_WAY + LINES_AT_ONCE)
        producer.go_on()
        turns += 1
    assert desk.bad.total == 2000


async def test_progress_of_a_whole_read_is_one_turn() -> None:
    desk = Desk(VirtualClock())
    producer = desk.connect()
    producer.feed(b'{"job_id":"j1","bytes_transferred":1}\n' * 1700)
    assert not producer.behind
    assert desk.intake.lines == 1700


async def test_who_is_far_ahead_of_the_disk_is_not_read_before_the_next_write() -> None:
    desk = Desk(VirtualClock())
    await desk.outbox.open()
    flooding, other = desk.connect(), desk.connect()
    for number in range(MAX_UNWRITTEN):
        assert not flooding.ahead_of_disk
        flooding.feed(b'{"job_id":"j1","current_phase":"phase %d"}\n' % number)
    other.feed(b'{"job_id":"j2","status":"running","ack":1}\n')
    assert (flooding.ahead_of_disk, other.ahead_of_disk) == (True, False)
    written = asyncio.Event()
    desk.intake.when_clear(written.set)
    running = asyncio.create_task(desk.intake.run())
    await written.wait()
    assert not flooding.ahead_of_disk
    await desk.intake.finish()
    await running
