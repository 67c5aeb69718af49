"""The hub's line in `systemctl status`: what a person wants to know first."""

import asyncio

import pytest

from sha_daemon.database import DatabaseAway, SchemaMissing
from tests.support.watchdog_scene import Scene


@pytest.fixture
def scene(caplog: pytest.LogCaptureFixture) -> Scene:
    return Scene(caplog)


def rate(status: str) -> float:
    return float(status.partition(" updates/s")[0].split()[-1])


def test_it_has_jobs_silence_updates_a_second_and_the_database(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub() as hub:
            assert hub.status() == "3 jobs running, 0 silent, 0.0 updates/s, database ok"
            await scene.say("quiet")
            for _ in range(100):
                await scene.say("busy")
                await asyncio.sleep(0.4)
            await asyncio.sleep(60)
            assert hub.status() == "3 jobs running, 1 silent, 1 never heard, 0.0 updates/s, database ok"
            for _ in range(25):
                await scene.say("busy")
                await asyncio.sleep(0.4)
            assert 2 < rate(hub.status()) < 3
            for job_id in ("quiet", "busy"):
                await scene.say(job_id, "completed")
            await asyncio.sleep(40)
            assert hub.status() == "1 job running, 0 silent, 1 never heard, 0.0 updates/s, database ok"

    scene.play(story, ["quiet", "busy", "old"])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DatabaseAway("no server"), "database unreachable since 2025-10-09 08:53:30 UTC: no server"),
        (SchemaMissing("no table"), "database not migrated since 2025-10-09 08:53:30 UTC: no table"),
    ],
)
def test_a_database_that_is_missing_is_all_that_matters(scene: Scene, error: Exception, told: str) -> None:
    async def story(scene: Scene) -> None:
        async with scene.hub() as hub:
            await asyncio.sleep(7)
            scene.database.away(error)
            await asyncio.sleep(600)
            assert hub.status() == told
            scene.database.away(None)
            await asyncio.sleep(12)
            async with asyncio.timeout(300):
                while not 0 < rate(hub.status()) < 1:
                    await asyncio.sleep(1)
            assert hub.status().endswith("database ok")

    scene.play(story, ["live"])
