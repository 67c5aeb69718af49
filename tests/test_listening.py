"""The listening clock in virtual time: what a hub says of it between two questions to the database."""

import asyncio

from sha_daemon.database import DatabaseAway
from sha_daemon.listening import ListeningClock
from telemetry_common.lifecycle import Pulse
from testbed.memory_database import MemoryDatabase
from tests.support.hub import Shared
from tests.support.virtual_clock import VirtualClock, run_virtual

KEPT_US = 60_000_000


async def listened(database: MemoryDatabase, clock: VirtualClock, seconds: float) -> ListeningClock:
    """By a hub that has just started, so long ago."""
    listening = ListeningClock(Shared(database), clock, lambda: True, Pulse("listening", 60.0, clock))
    task = asyncio.create_task(listening.run())
    await asyncio.sleep(seconds)
    task.cancel()
    return listening


def test_between_two_questions_the_reading_goes_on() -> None:
    clock = VirtualClock()
    database = MemoryDatabase(clock)

    async def story() -> None:
        assert (await listened(database, clock, 7.5)).estimate_us() == 7_500_000
        assert database.tables.listening.listened_us == 5_000_000

    run_virtual(story(), clock)


def test_a_hub_whose_first_question_had_no_answer_adds_its_own_seconds_to_what_the_row_says() -> None:
    """Else a job heard in them would be dated by the addition before: failed up to five seconds too early."""
    clock = VirtualClock()
    database = MemoryDatabase(clock)
    database.fail("answer", DatabaseAway("connection lost"))

    async def story() -> None:
        assert (await listened(database, clock, 4.5)).estimate_us(KEPT_US) == KEPT_US + 4_500_000

    run_virtual(story(), clock)
