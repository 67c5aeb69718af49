"""`completed` against the verdict of the watchdog, 10,000 times on a real MariaDB: no reported end is overwritten."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from msgspec import convert

from sha_daemon.app import Hub
from sha_daemon.config import DatabaseSettings, HubSettings
from sha_daemon.database import Session
from sha_daemon.mariadb import MariaDB
from telemetry_common.clock import SystemClock
from telemetry_common.contract import Update
from telemetry_common.lifecycle import Lifecycle
from tests.support.databases import OnMariaDB
from tests.support.hub import Heard

pytestmark = pytest.mark.integration

T = TypeVar("T")
COMPLETED = convert({"status": "completed"}, Update)
AT_ONCE = 5
"""Ends that are under way together: the writer's transactions are short then, and meet the verdicts often."""


class ReadThenWrite:
    """A watchdog as it must not be: it has read that the jobs are silent, so it fails them."""

    def __init__(self, session: Session, link: Any) -> None:
        self._session = session
        self._link = link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def fail_silent(self, job_id: str, heard_before_us: int, at: float, message: str) -> bool:
        self._link.execute(
            "UPDATE backup_jobs SET status = 'failed', error_message = %s WHERE id = %s", message, job_id
        )
        return True


class Careless(MariaDB):
    async def run(self, work: Callable[[Session], T]) -> T:
        return await super().run(lambda session: work(ReadThenWrite(session, session._link)))  # type: ignore[attr-defined]


class Race:
    """The jobs of one round, all of them lost; the sweep begins at one end, their senders anywhere."""

    def __init__(self, settings: DatabaseSettings, watching: type[MariaDB]) -> None:
        clock = SystemClock()
        self.hub = Hub(
            HubSettings(database=settings),
            clock,
            lambda kind, purpose: (watching if purpose == "watch" else MariaDB)(settings, kind),
            Lifecycle(Heard(), clock),
        )
        self.tables = OnMariaDB(settings)
        self.rng = random.Random(11)

    async def run(self, jobs: int) -> tuple[int, int]:
        """Of so many jobs: how many ends were overwritten, and how many verdicts had to be taken back."""
        parts = self.hub.parts["backup"]
        names = [f"job-{number}" for number in range(jobs)]
        self.prepare(jobs)
        before = parts.watchdog.failed
        await asyncio.gather(parts.watchdog.sweep(), self.end(self.rng.sample(names, jobs)))
        ((overwritten,),) = self.tables.rows("SELECT COUNT(*) FROM backup_jobs WHERE status <> 'completed'")
        return overwritten, parts.watchdog.failed - before

    def prepare(self, jobs: int) -> None:
        self.tables.execute("DELETE FROM backup_jobs")
        self.tables.execute(
            "INSERT INTO backup_jobs (id, vm_name, backup_type, status, last_telemetry_at, telemetry_heard_us) SELECT"
            f" CONCAT('job-', seq), 'vm', 'full', 'running', UTC_TIMESTAMP(), -400000000 FROM seq_0_to_{jobs - 1}"
        )

    async def end(self, names: list[str]) -> None:
        ingest = self.hub.parts["backup"].ingest
        for first in range(0, len(names), AT_ONCE):
            await asyncio.gather(*(ingest.submit(name, COMPLETED) for name in names[first : first + AT_ONCE]))


async def raced(settings: DatabaseSettings, watching: type[MariaDB], rounds: int, jobs: int) -> tuple[int, int]:
    """Over all rounds. Of the hub only what takes part is at work: no sweep of its own comes in between."""
    race = Race(settings, watching)
    writers = [asyncio.create_task(writer.run()) for writer in race.hub.parts["backup"].ingest]
    try:
        found = [await race.run(jobs) for _ in range(rounds)]
    finally:
        for writer in writers:
            writer.cancel()
        await race.hub.close()
        race.tables.close()
    return sum(overwritten for overwritten, _ in found), sum(failed for _, failed in found)


async def test_no_end_that_was_reported_is_overwritten_by_a_verdict(migrated_database: DatabaseSettings) -> None:
    overwritten, failed = await raced(migrated_database, MariaDB, rounds=10, jobs=1000)
    assert overwritten == 0
    assert 500 < failed < 9500, "both sides win now and then"


async def test_a_watchdog_that_reads_and_then_writes_loses_the_race(migrated_database: DatabaseSettings) -> None:
    """So that the test above is known to be one."""
    overwritten, _ = await raced(migrated_database, Careless, rounds=1, jobs=500)
    assert overwritten > 50
