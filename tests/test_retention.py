"""Samples are kept for as long as configured, and let go gently: the rule, and the hub's task in virtual time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from msgspec import convert

from sha_daemon.app import Hub
from sha_daemon.config import History, HubSettings
from sha_daemon.database import DatabaseAway, RowLocked
from sha_daemon.pruning import STEP_ROWS
from sha_daemon.records import Job, Sample
from sha_daemon.retention import DAY_SECONDS, cutoff, rest_seconds
from telemetry_common.contract import Update
from testbed.memory_database import MemoryDatabase
from tests.support.hub import virtual_hub
from tests.support.virtual_clock import VirtualClock, run_virtual

HOUR = 3600


def test_the_cut_off_lies_as_many_days_back_as_configured() -> None:
    assert cutoff(1_760_000_000.9, 30) == 1_760_000_000 - 30 * DAY_SECONDS


@pytest.mark.parametrize(("step", "rest"), [(0, 0.05), (0.01, 0.05), (0.1, 0.3), (20, 60)])
def test_at_most_a_quarter_of_the_time_is_spent_on_pruning(step: float, rest: float) -> None:
    assert rest_seconds(step) == pytest.approx(rest)


class Scene:
    """A clock and a database, with samples of one job by their age in days."""

    def __init__(self, retention_days: int = 30) -> None:
        self.clock = VirtualClock()
        self.database = MemoryDatabase(self.clock)
        self.settings = HubSettings(history=History(retention_days=retention_days))
        self.database.add_job(Job(job_id="j1", status="running"))

    async def add(self, *ages_days: float) -> None:
        samples = [
            Sample(
                job_id="j1",
                at=self.clock.wall() - age * DAY_SECONDS,
                status="running",
                current_phase="transferring",
                bytes_transferred=0,
                total_bytes=0,
                transfer_speed_bps=0,
                progress_percent=0,
            )
            for age in ages_days
        ]
        await self.database.run(lambda session: session.add_history(samples))

    @property
    def kept(self) -> int:
        return len(self.database.tables.samples)


def play(scene: Scene, story: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        await story(scene)

    run_virtual(main(), scene.clock)


def test_a_hub_lets_go_what_is_older_and_keeps_the_rest() -> None:
    async def story(scene: Scene) -> None:
        await scene.add(90, 31, 30.001, 29.9, 0)
        async with virtual_hub(scene.database, scene.clock, scene.settings) as hub:
            await asyncio.sleep(60)
            assert (scene.kept, pruned(hub)) == (2, 3)
            await asyncio.sleep(3 * HOUR)
            assert (scene.kept, pruned(hub)) == (1, 4)

    play(Scene(), story)


def pruned(hub: Hub) -> int:
    assert hub.pruning is not None
    return hub.pruning.pruned


def test_with_zero_days_everything_is_kept_for_ever() -> None:
    async def story(scene: Scene) -> None:
        await scene.add(10_000, 31)
        async with virtual_hub(scene.database, scene.clock, scene.settings) as hub:
            await asyncio.sleep(HOUR)
            assert (scene.kept, hub.pruning) == (2, None)

    play(Scene(retention_days=0), story)


def test_a_large_backlog_is_let_go_in_steps_with_rests_between() -> None:
    async def story(scene: Scene) -> None:
        await scene.add(*[40] * (10 * STEP_ROWS), 1)
        async with virtual_hub(scene.database, scene.clock, scene.settings):
            await asyncio.sleep(0.22)
            assert 4 * STEP_ROWS < scene.kept < 7 * STEP_ROWS
            await asyncio.sleep(1)
            assert scene.kept == 1

    play(Scene(), story)


def test_two_hubs_on_one_database_prune_without_harm() -> None:
    async def story(scene: Scene) -> None:
        await scene.add(*[40] * (3 * STEP_ROWS), *[1] * 5)
        async with (
            virtual_hub(scene.database, scene.clock, scene.settings) as one,
            virtual_hub(scene.database, scene.clock, scene.settings) as other,
        ):
            await asyncio.sleep(60)
            assert (scene.kept, pruned(one) + pruned(other)) == (5, 3 * STEP_ROWS)

    play(Scene(), story)


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_stepped_by_an_hour_loses_an_hour_at_most(step: float) -> None:
    async def story(scene: Scene) -> None:
        await scene.add(30.1, 29.9, 1)
        scene.clock.stepped += step
        async with virtual_hub(scene.database, scene.clock, scene.settings):
            await asyncio.sleep(60)
            assert scene.kept == 2

    play(Scene(), story)


def test_what_a_sender_reports_late_is_kept_from_its_receipt(caplog: pytest.LogCaptureFixture) -> None:
    async def story(scene: Scene) -> None:
        async with virtual_hub(scene.database, scene.clock, scene.settings) as hub:
            ingest = hub.parts["backup"].ingest
            await ingest.submit("j1", convert({"status": "running"}, Update))
            await ingest.submit("j1", convert({"status": "running", "age_seconds": 40 * DAY_SECONDS}, Update))
            await asyncio.sleep(HOUR)
            assert scene.kept == 2
            scene.clock.stepped += 30 * DAY_SECONDS
            await asyncio.sleep(HOUR)
            assert scene.kept == 0

    play(Scene(), story)


@pytest.mark.parametrize("error", [DatabaseAway("no server"), RowLocked("held by another hub")])
def test_trouble_is_said_once_and_pruning_goes_on_after_it(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def story(scene: Scene) -> None:
        await scene.add(40)
        async with virtual_hub(scene.database, scene.clock, scene.settings) as hub:
            assert hub.pruning is not None
            database = hub.pruning._database
            run = database.run

            async def broken(work: object) -> None:
                raise error

            database.run = broken  # type: ignore[method-assign, assignment]
            await asyncio.sleep(HOUR)
            database.run = run  # type: ignore[method-assign]
            await asyncio.sleep(HOUR)
            assert scene.kept == 0

    with caplog.at_level(logging.INFO, "sha_daemon.pruning"):
        play(Scene(), story)
    assert [record.message.split(" reason=")[0] for record in caplog.records] == [
        "history is not pruned for now",
        "history is pruned again",
    ]
