"""The whole sidecar in virtual time: producers by hand, the outbox in memory, a hub that answers as it is told."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from msgspec import structs

from sbc_daemon.answers import Answer
from sbc_daemon.app import Sidecar
from sbc_daemon.config import SidecarSettings
from sbc_daemon.conversation import Conversation
from sbc_daemon.outbox import Figures
from sbc_daemon.overview import outbox_state
from sbc_daemon.processes import Peer
from telemetry_common.lifecycle import Lifecycle
from testbed.memory_outbox import MemoryOutbox
from tests.support.no_processes import NoProcesses
from tests.support.virtual_clock import VirtualClock, run_virtual

NOTHING = Figures(states=0, progress=0, samples=0, dead_letters=0, bytes_used=0, oldest_wall=None)


class Hub:
    """Takes what it gets, unless it is away."""

    url = "http://hub.example"

    def __init__(self) -> None:
        self.away = False
        self.refuses = False
        self.got: list[dict[str, Any]] = []

    async def post(self, job_id: str, body: bytes) -> Answer:
        await asyncio.sleep(0.01)
        if self.away:
            return Answer(failure="unreachable", detail="connection refused")
        if self.refuses:
            return Answer(status=400, detail="no")
        self.got.append(json.loads(body))
        seq = str(self.got[-1]["seq"])
        return Answer(status=204, headers={"telemetry-seq": seq, "telemetry-status": self.got[-1]["status"]})

    async def post_batch(self, messages: Sequence[tuple[str, bytes]]) -> Answer:
        answers = [await self.post(*message) for message in messages]
        return answers[0] if self.away else Answer(status=200, items=tuple(answers))

    async def tend(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None: ...


class Systemd:
    def __init__(self) -> None:
        self.told: list[str] = []

    def notify(self, state: str) -> None:
        self.told.append(state)


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.outbox = MemoryOutbox()
        self.hub = Hub()
        self.systemd = Systemd()
        self.answers = b""
        self.sidecar: Sidecar

    def connect(self) -> Conversation:
        return self.sidecar.converse(Peer(1000, 4711, None), self.answer)

    def answer(self, data: bytes) -> None:
        self.answers += data

    async def live(self, story: Callable[["World"], Awaitable[None]]) -> None:
        lifecycle = Lifecycle(self.systemd, self.clock)
        settings = SidecarSettings()
        self.sidecar = await Sidecar.opened(settings, self.clock, self.outbox, self.hub, NoProcesses(), lifecycle)
        async with self.sidecar.running(1.0):
            await story(self)
            await self.sidecar.finish()
        await self.sidecar.close()


def lives(*stories: Callable[[World], Awaitable[None]]) -> World:
    """One life of the daemon after the other, on the same disk."""
    world = World()
    for story in stories:
        run_virtual(world.live(story), world.clock)
    return world


async def a_backup(world: World) -> None:
    producer = world.connect()
    producer.feed(b'{"job_id":"j1","total_bytes":1000,"bytes_transferred":0}\n')
    for second in range(1, 61):
        await asyncio.sleep(1)
        producer.feed(b'{"bytes_transferred":%d}\n' % (second * 10))
    producer.feed(b'{"status":"completed","bytes_transferred":1000,"ack":"end"}\n')
    await asyncio.sleep(1)
    producer.close()


def test_a_backup_arrives_on_the_hub_at_the_cadence_with_speed_and_eta() -> None:
    world = lives(a_backup)
    got = sorted(world.hub.got, key=lambda message: message["seq"])
    assert world.answers == b'{"ack":"end","ok":true}\n'
    assert 13 <= len(got) <= 20
    assert (got[6]["transfer_speed_bps"], got[-1]["status"], got[-1]["bytes_transferred"]) == (10, "completed", 1000)


def test_an_absent_hub_is_not_noticed_by_the_producer_and_learns_the_end() -> None:
    async def without_hub(world: World) -> None:
        world.hub.away = True
        await a_backup(world)
        assert world.answers == b'{"ack":"end","ok":true}\n'
        world.hub.away = False
        await asyncio.sleep(40)

    got = lives(without_hub).hub.got
    assert got[0]["status"] == "running"
    assert [message["status"] for message in got].count("completed") == 1


def test_what_one_life_accepted_the_next_one_delivers() -> None:
    async def before(world: World) -> None:
        world.hub.away = True
        world.connect().feed(b'{"job_id":"j1","status":"completed"}\n')

    async def after(world: World) -> None:
        world.hub.away = False
        await asyncio.sleep(1)
        assert [message["status"] for message in world.hub.got] == ["completed"]
        world.connect().feed(b'{"job_id":"j1","status":"running","ack":1}\n')
        assert b'"ok":false' in world.answers

    lives(before, after)


def test_systemd_hears_a_line_that_a_person_wants_to_read() -> None:
    async def story(world: World) -> None:
        world.connect().feed(b'{"job_id":"j1"}\n')
        await asyncio.sleep(6)

    told = lives(story).systemd.told
    assert "STATUS=1 job running, 0 waiting for the hub, hub reachable" in told
    assert "WATCHDOG=1" in told


def test_the_operator_sees_that_an_outbox_was_moved_aside() -> None:
    figures = structs.replace(NOTHING, moved_aside=1, in_memory=2)
    shown = outbox_state(figures, 0.0, 1 << 20)
    assert (shown.moved_aside, shown.in_memory, shown.max_bytes) == (1, 2, 1 << 20)


def test_the_operator_sees_jobs_outbox_and_hub() -> None:
    async def story(world: World) -> None:
        world.connect().feed(b'{"job_id":"j1","current_phase":"snapshot"}\nbad\n')
        await asyncio.sleep(1)
        seen = msgspec.to_builtins(await world.sidecar.report())
        assert seen["jobs"][0]["job_id"] == "j1"
        assert seen["jobs"][0]["hub_status"] == "running"
        assert (seen["hub"]["link"], seen["outbox"]["states"]) == ("up", 0)
        assert (seen["counters"]["lines"], seen["counters"]["bad_lines"]) == (1, 1)

    lives(story)
