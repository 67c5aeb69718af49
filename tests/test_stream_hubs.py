"""The stream of whole hubs, in virtual time: the watchdog's verdicts, another hub's updates, hubs that come and go."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import convert

from sha_daemon.app import Hub
from sha_daemon.records import Job
from telemetry_common.contract import Update
from testbed.memory_database import MemoryDatabase
from tests.support.hub import virtual_hub
from tests.support.stream import following
from tests.support.virtual_clock import VirtualClock, run_virtual


async def hear(hub: Hub, **fields: Any) -> None:
    await hub.parts["backup"].ingest.submit("j1", convert({"status": "running"} | fields, Update))


def play(story: Callable[[MemoryDatabase, VirtualClock], Awaitable[None]]) -> None:
    clock = VirtualClock()
    database = MemoryDatabase(clock)
    database.add_job(Job(job_id="j1", status="running"))

    async def main() -> None:
        await story(database, clock)

    run_virtual(main(), clock)


def test_a_verdict_of_the_watchdog_is_told_at_once_and_so_is_its_revival() -> None:
    async def story(database: MemoryDatabase, clock: VirtualClock) -> None:
        async with virtual_hub(database, clock) as hub:
            await hear(hub)
            async with following(hub.stream, "j1") as reader:
                while database.tables.jobs["j1"].job.status == "running":
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                verdict = reader.ears.told[-1].data
                assert (verdict["status"], verdict["stalled"]) == ("failed", True)
                await hear(hub)
                await asyncio.sleep(0.1)
                revived = reader.ears.told[-1].data
                assert (revived["status"], revived["stalled"], revived["error_message"]) == ("running", False, None)

    play(story)


def test_what_one_hub_commits_a_reader_of_another_is_told_within_about_a_second() -> None:
    async def story(database: MemoryDatabase, clock: VirtualClock) -> None:
        async with (
            virtual_hub(database, clock) as here,
            virtual_hub(database, clock) as there,
            following(here.stream) as reader,
        ):
            for moved in (1, 2, 3):
                await hear(there, bytes_transferred=moved)
                await asyncio.sleep(1.2)
            assert reader.ears.jobs()[1:] == [("j1", 1), ("j1", 2), ("j1", 3)]

    play(story)


def test_a_reader_that_meets_another_hub_begins_anew() -> None:
    async def story(database: MemoryDatabase, clock: VirtualClock) -> None:
        async with virtual_hub(database, clock) as hub, following(hub.stream) as reader:
            place = reader.ears.event_id
        async with virtual_hub(database, clock) as hub, following(hub.stream, last_event_id=place) as reader:
            assert reader.ears.names() == ["reset", "job", "ready"]
            assert reader.ears.event_id != place

    play(story)
