"""The watchdog at its real thresholds, in virtual time: the dead are found, and nobody else is failed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from msgspec import convert

from sha_daemon.app import Hub
from sha_daemon.config import HubSettings
from sha_daemon.database import DatabaseAway
from sha_daemon.records import Job
from telemetry_common.contract import Update
from testbed.memory_database import MemoryDatabase
from tests.support.hub import virtual_hub
from tests.support.virtual_clock import VirtualClock, run_virtual


class Scene:
    """A clock, a database with one running job `j1`, and hubs that come and go."""

    def __init__(self, settings: HubSettings | None = None) -> None:
        self.clock = VirtualClock()
        self.database = MemoryDatabase(self.clock)
        self.settings = settings or HubSettings()

    @property
    def job(self) -> Job:
        return self.database.tables.jobs["j1"].job

    def status(self) -> str:
        return self.job.status

    async def hear(self, hub: Hub, status: str = "running") -> None:
        await hub.parts["backup"].ingest.submit("j1", convert({"status": status}, Update))

    async def up(self, seconds: float, hear_every: float | None = None) -> None:
        """A hub that lives for so long, and hears the job now and then, or never."""
        async with virtual_hub(self.database, self.clock, self.settings) as hub:
            if hear_every is None:
                await asyncio.sleep(seconds)
                return
            for _ in range(int(seconds / hear_every)):
                await self.hear(hub)
                await asyncio.sleep(hear_every)


def play(scene: Scene, story: Callable[[Scene], Awaitable[None]], job: Job | None = None) -> None:
    async def main() -> None:
        scene.database.add_job(job or Job(job_id="j1", status="running"))
        await story(scene)

    run_virtual(main(), scene.clock)


def test_a_dead_job_is_failed_after_300_s_and_at_most_one_sweep() -> None:
    async def story(scene: Scene) -> None:
        async with virtual_hub(scene.database, scene.clock) as hub:
            await scene.hear(hub)
            await asyncio.sleep(299)
            assert scene.status() == "running"
            await asyncio.sleep(32)
            assert scene.status() == "failed"
            assert scene.job.error_message == scene.job.watchdog_message
            assert str(scene.job.error_message).startswith("Job stalled - no telemetry for 5m")

    play(Scene(), story)


def test_one_warning_per_silence_and_one_line_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    async def story(scene: Scene) -> None:
        async with virtual_hub(scene.database, scene.clock) as hub:
            for _ in range(2):
                await scene.hear(hub)
                await asyncio.sleep(200)
            await scene.hear(hub)
            await asyncio.sleep(40)

    with caplog.at_level(logging.INFO, "sha_daemon.watchdog"):
        play(Scene(), story)
    assert [record.message.split(" job=")[0] for record in caplog.records if "never" not in record.message] == [
        "job is silent",
        "job is silent no longer",
    ] * 2


def test_an_outage_of_the_hub_fails_nobody() -> None:
    async def story(scene: Scene) -> None:
        await scene.up(60, hear_every=5)
        await asyncio.sleep(600)
        await scene.up(290)
        assert scene.status() == "running"
        await scene.up(45)
        assert scene.status() == "failed"

    play(Scene(), story)


def test_a_hub_that_crash_loops_every_two_minutes_still_finds_the_dead() -> None:
    async def story(scene: Scene) -> None:
        await scene.up(60, hear_every=5)
        for _ in range(4):
            await scene.up(120)
            await asyncio.sleep(60)
        assert scene.status() == "failed"

    play(Scene(), story)


def test_a_living_job_outlives_an_hour_of_a_crash_looping_hub() -> None:
    async def story(scene: Scene) -> None:
        for _ in range(20):
            await scene.up(120, hear_every=5)
            await asyncio.sleep(60)
        assert scene.status() == "running"

    play(Scene(), story)


def test_a_database_that_is_away_fails_nobody() -> None:
    async def story(scene: Scene) -> None:
        async def away(work: object) -> None:
            raise DatabaseAway("no server")

        async with virtual_hub(scene.database, scene.clock) as hub:
            await scene.hear(hub)
            runs = [(d, d.run) for d in hub._databases]
            for database, _ in runs:
                database.run = away  # type: ignore[method-assign, assignment]
            await asyncio.sleep(600)
            for database, run in runs:
                database.run = run  # type: ignore[method-assign]
            await asyncio.sleep(280)
            assert scene.status() == "running"
            await asyncio.sleep(60)
            assert scene.status() == "failed"

    play(Scene(), story)


def test_a_suspended_hub_fails_nobody() -> None:
    async def story(scene: Scene) -> None:
        async with virtual_hub(scene.database, scene.clock) as hub:
            await scene.hear(hub)
            await asyncio.sleep(100)
            scene.clock.now += 600
            await asyncio.sleep(180)
            assert scene.status() == "running"
            await asyncio.sleep(60)
            assert scene.status() == "failed"

    play(Scene(), story)


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_stepped_by_an_hour_changes_no_verdict(step: float) -> None:
    async def story(scene: Scene) -> None:
        async with virtual_hub(scene.database, scene.clock) as hub:
            await scene.hear(hub)
            await asyncio.sleep(100)
            scene.clock.stepped += step
            await asyncio.sleep(190)
            assert scene.status() == "running"
            await asyncio.sleep(60)
            assert scene.status() == "failed"

    play(Scene(), story)


def test_two_hubs_on_one_database_count_each_second_once() -> None:
    async def story(scene: Scene) -> None:
        async with virtual_hub(scene.database, scene.clock) as hub, virtual_hub(scene.database, scene.clock):
            await scene.hear(hub)
            await asyncio.sleep(290)
            assert scene.status() == "running"
            await asyncio.sleep(45)
            assert scene.status() == "failed"

    play(Scene(), story)


def test_a_job_heard_again_is_revived_and_can_complete() -> None:
    async def story(scene: Scene) -> None:
        async with virtual_hub(scene.database, scene.clock) as hub:
            await scene.hear(hub)
            await asyncio.sleep(340)
            assert scene.status() == "failed"
            await scene.hear(hub)
            assert (scene.status(), scene.job.error_message, scene.job.watchdog_failed_at) == ("running", None, None)
            await scene.hear(hub, "completed")
            assert scene.status() == "completed"

    play(Scene(), story)


@pytest.mark.parametrize(("never_heard", "status"), [("report", "running"), ("fail", "failed")])
def test_a_job_that_never_sent_telemetry_is_failed_only_if_configured(never_heard: str, status: str) -> None:
    async def story(scene: Scene) -> None:
        await scene.up(150)
        async with virtual_hub(scene.database, scene.clock, scene.settings) as hub:
            await asyncio.sleep(140)
            assert (scene.status(), hub.parts["backup"].watchdog.never_heard) == ("running", 1)
            await asyncio.sleep(60)
            assert scene.status() == status

    settings = convert({"watchdog": {"never_heard": never_heard}}, HubSettings)
    scene = Scene(settings)
    play(scene, story, Job(job_id="j1", status="running", started_at=scene.clock.wall()))


def test_a_row_that_another_program_holds_does_not_save_the_other_dead() -> None:
    async def story(scene: Scene) -> None:
        scene.database.add_job(Job(job_id="held", status="running"))
        async with virtual_hub(scene.database, scene.clock) as hub:
            for job_id in ("held", "j1"):
                await hub.parts["backup"].ingest.submit(job_id, convert({"status": "running"}, Update))
                await asyncio.sleep(2)
            scene.database.hold("held")
            await asyncio.sleep(340)
            assert (scene.status(), scene.database.tables.jobs["held"].job.status) == ("failed", "running")
            scene.database.hold(None)
            await asyncio.sleep(31)
            assert scene.database.tables.jobs["held"].job.status == "failed"

    play(Scene(), story)


def test_a_completed_job_is_never_touched() -> None:
    async def story(scene: Scene) -> None:
        async with virtual_hub(scene.database, scene.clock) as hub:
            await scene.hear(hub, "completed")
            await asyncio.sleep(3600)
            assert (scene.status(), hub.parts["backup"].watchdog.failed) == ("completed", 0)

    play(Scene(), story)
