"""What the hub could not hear is no silence: outages, standstills, stepped clocks and several hubs, in virtual time.

In every story `dead` falls silent and must be found in listened time; `live` goes on and must never be failed, not
even for a moment.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from msgspec import convert

from sha_daemon.app import Hub
from sha_daemon.config import HubSettings
from sha_daemon.database import DatabaseAway, SchemaMissing
from sha_daemon.ingest_queue import NotStored
from sha_daemon.records import Job
from telemetry_common.contract import Update
from tests.support.watchdog_scene import Scene

HOUR = 3600.0


@pytest.fixture
def scene(caplog: pytest.LogCaptureFixture) -> Scene:
    return Scene(caplog)


async def listened_to_for_100_s(scene: Scene) -> None:
    """The dead job has spoken for the last time, and 100 s went by in which the hub could hear."""
    await asyncio.sleep(1)
    await scene.say("dead")
    await asyncio.sleep(99)


async def found_within(scene: Scene, least: float, most: float) -> None:
    """The verdict falls between these seconds from now; nobody but the dead is failed."""
    await asyncio.sleep(least)
    assert (scene.status("dead"), scene.failed) == ("running", [])
    await asyncio.sleep(most - least)
    assert (scene.status("dead"), scene.failed) == ("failed", ["dead"])


def test_a_hub_that_is_down_for_ten_minutes_fails_nobody_for_it(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub():
            await listened_to_for_100_s(scene)
        await asyncio.sleep(600)
        async with scene.hub():
            await found_within(scene, 195, 245)
            told = str(scene.job("dead").error_message)
            assert told.startswith("Job stalled - no telemetry for 15m"), "what is told is the time on the wall"

    scene.play(story)


def test_who_was_heard_while_the_database_was_away_is_known_to_the_next_hub(scene: Scene) -> None:
    """The hub that heard the job dies before the job is heard again, and has written the hearing down by then."""

    async def story(scene: Scene) -> None:
        async with scene.hub():
            await listened_to_for_100_s(scene)
            await asyncio.sleep(150)
            scene.database.away(DatabaseAway("connection refused"))
            await asyncio.sleep(2)
            with suppress(NotStored):
                await scene.say("dead")
            await asyncio.sleep(2)
            scene.database.away(None)
            await asyncio.sleep(10)
        async with scene.hub():
            await found_within(scene, 270, 350)

    scene.play(story)


def test_who_was_heard_and_waits_for_a_slow_database_is_spared(scene: Scene) -> None:
    """Heard in time, and written down only when the verdict could have fallen: one of the pauses meets a sweep so."""
    scene.write_seconds = 4.0

    async def story(scene: Scene) -> None:
        async with scene.hub():
            for pause in range(290, 330, 2):
                await scene.say("dead")
                await asyncio.sleep(pause)
                said = asyncio.create_task(scene.say("dead"))
                verdicts = len(scene.failed)
                await said
                assert len(scene.failed) == verdicts

    scene.play(story)


@pytest.mark.parametrize("down_seconds", [1, 60])
def test_a_hub_that_restarts_every_two_minutes_finds_the_dead_and_fails_no_other(
    scene: Scene, down_seconds: float
) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub():
            await scene.say("dead")
        for _ in range(int(HOUR / (120 + down_seconds))):
            await scene.up(120)
            await asyncio.sleep(down_seconds)
            assert scene.status("live") == "running"

    scene.play(story)
    assert scene.failed == ["dead"]
    listened = (scene.job("dead").completed_at or 0) - (scene.job("dead").last_telemetry_at or 0)
    assert listened * 120 / (120 + down_seconds) < 300 + 30 + 3 * 10, "each start costs some seconds at most"


@pytest.mark.parametrize("error", [DatabaseAway("no server"), SchemaMissing("no table")])
def test_a_database_that_is_away_for_ten_minutes_fails_nobody(scene: Scene, error: DatabaseAway) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub():
            await listened_to_for_100_s(scene)
            scene.database.away(error)
            await asyncio.sleep(600)
            scene.database.away(None)
            await found_within(scene, 185, 245)

    scene.play(story)
    said = [message for message in scene.messages if "sweep" in message or "looked for again" in message]
    assert said == [f'no sweep for silent jobs for now reason="{error}"', "silent jobs are looked for again put_off=20"]


def test_a_hub_that_is_suspended_for_ten_minutes_fails_nobody(scene: Scene) -> None:
    """The monotonic clock goes on (SIGSTOP, a stuck event loop): its turns come late."""

    async def story(scene: Scene) -> None:
        async with scene.hub():
            await listened_to_for_100_s(scene)
            scene.clock.now += 600
            await found_within(scene, 190, 240)

    scene.play(story)
    assert "the daemon stood still seconds=" in " ".join(scene.messages)


@pytest.mark.parametrize("step", [-HOUR, HOUR])
@pytest.mark.parametrize("whose", ["hub", "database"])
def test_a_clock_that_is_stepped_by_an_hour_changes_no_verdict(scene: Scene, whose: str, step: float) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub():
            await listened_to_for_100_s(scene)
            (scene.clock if whose == "hub" else scene.database_clock).stepped += step
            await found_within(scene, 190, 240)

    scene.play(story)


async def turn_a_connection_away(hub: Hub) -> None:
    hub.turned_away()


async def fill_the_queue(hub: Hub) -> None:
    """One update more than it takes."""
    update = convert({"status": "running"}, Update)
    await hub.receiver.store("backup", [("nobody", update, 1), ("nobody", update, 1)])


@pytest.mark.parametrize("shed", [turn_a_connection_away, fill_the_queue])
@pytest.mark.parametrize("every_seconds", [1, 29])
def test_a_hub_that_sheds_load_for_ten_minutes_fails_nobody(
    caplog: pytest.LogCaptureFixture, shed: Callable[[Hub], Awaitable[None]], every_seconds: int
) -> None:
    """Nobody knows who was turned away; each of them may have come again after half a minute only."""

    async def story(scene: Scene) -> None:
        async with scene.hub() as hub:
            await listened_to_for_100_s(scene)
            scene.senders.clear()
            for _ in range(600 // every_seconds):
                await shed(hub)
                await asyncio.sleep(every_seconds)
            scene.senders.add("live")
            await found_within(scene, 195, 275)

    scene = Scene(caplog, convert({"listen": {"max_queue": 1}}, HubSettings))
    scene.play(story)
    count = 600 // every_seconds
    assert [message.partition(" reason=")[0] for message in scene.messages if "turned away" in message] == [
        "senders are turned away; no silence counts meanwhile",
        f"senders are turned away no longer count={count} seconds={(count - 1) * every_seconds}",
    ]


def test_a_job_that_only_one_of_several_hubs_hears_is_not_silent(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub(), scene.hub(), scene.hub():
            await scene.say("dead")
            await found_within(scene, 299, 332)
            await asyncio.sleep(HOUR)

    scene.play(story)
    verdicts = sum(message.startswith("job failed by the watchdog") for message in scene.messages)
    assert verdicts == 1, "one guarded UPDATE takes effect"
    others = [message for message in scene.messages if message.startswith("job is silent no longer job=dead")]
    assert len(others) == 2, "the other two say what became of it"
    assert all("status=failed" in message for message in others)


def test_two_hubs_count_each_second_once_also_when_one_of_them_comes_and_goes(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub():
            await scene.say("dead")
            for _ in range(9):
                await scene.up(17)
                await asyncio.sleep(16)
            assert scene.failed == []
            await found_within(scene, 1, 34)

    scene.play(story)


def test_what_neither_of_two_hubs_could_hear_is_counted_by_neither(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub() as one, scene.hub() as two:
            await listened_to_for_100_s(scene)
            scene.senders.clear()
            for _ in range(60):
                await asyncio.sleep(10)
                for hub in (one, two):
                    hub.turned_away()
            scene.senders.add("live")
            await found_within(scene, 195, 275)

    scene.play(story)


def test_what_was_running_before_the_hub_first_came_up_is_given_its_time(scene: Scene) -> None:
    """A job that an older hub has heard, with no reading of the listening clock."""
    heard = scene.clock.wall() - 3600

    async def story(scene: Scene) -> None:
        async with scene.hub():
            await found_within(scene, 299, 332)

    scene.play(story, [Job(job_id="dead", status="running", last_telemetry_at=heard), "live"])
