"""Two hubs on one database, both receiving updates of the same jobs: nothing lost, nothing backwards, no 500."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sha_daemon.config import DatabaseSettings
from sha_daemon.statements import LOCK_WAIT_SECONDS
from testbed.installation import hub_settings
from testbed.mariadb import PrivateMariaDB
from tests.support.bystanders import Meddler, Watcher
from tests.support.crowd import DISK_BYTES, MESSAGES, TOTAL, Crowd
from tests.support.databases import OnMariaDB
from tests.support.stage import RealHub

pytestmark = pytest.mark.integration

JOBS = [f"job-{n:02}" for n in range(40)]


class Pair:
    """The hubs, their server, and the rows."""

    def __init__(self, hubs: list[RealHub], server: PrivateMariaDB, settings: DatabaseSettings) -> None:
        self.hubs = hubs
        self.server = server
        self.database = settings.name
        self.tables = OnMariaDB(settings)
        self.tables.execute(
            "INSERT INTO backup_jobs (id, vm_name, backup_type, status)"
            " SELECT CONCAT('job-', LPAD(seq, 2, '0')), 'vm', 'full', 'pending' FROM seq_0_to_39"
        )
        self.tables.execute(
            "INSERT INTO backup_disks (backup_job_id, disk_index)"
            " SELECT CONCAT('job-', LPAD(j.seq, 2, '0')), d.seq FROM seq_0_to_39 j, seq_0_to_1 d WHERE j.seq < 30"
        )

    def crowd(self, seed: int) -> Crowd:
        return Crowd(JOBS, [hub.url for hub in self.hubs], seed)

    def watcher(self) -> Watcher:
        return Watcher(self.server, self.database)

    def whole(self) -> dict[str, tuple[Any, ...]]:
        """(status, bytes, percent, seq) of each job."""
        found = self.tables.rows(
            "SELECT id, status, bytes_transferred, progress_percent, telemetry_seq FROM backup_jobs"
        )
        return {row[0]: row[1:] for row in found}

    def history(self) -> dict[str, set[int]]:
        found = self.tables.rows("SELECT job_id, seq FROM telemetry_history WHERE seq IS NOT NULL")
        numbers: dict[str, set[int]] = {}
        for job, seq in found:
            numbers.setdefault(job, set()).add(seq)
        return numbers

    def judge(self, crowd: Crowd, watcher: Watcher, cancelled: Collection[str] = ()) -> None:
        """Everything that was acknowledged is there, every end, every sample, and nothing ever fell."""
        assert watcher.looks > 3
        assert watcher.backwards == []
        jobs = self.whole()
        assert {job for job, row in jobs.items() if row[0] == "cancelled"} == set(cancelled)
        assert all(row[1] >= crowd.told[job].bytes_transferred for job, row in jobs.items())
        ended = {job: place for place, job in enumerate(JOBS) if job not in cancelled}
        assert {job: jobs[job] for job in ended} == {
            job: ("completed", TOTAL, 100, None if place % 2 else MESSAGES) for job, place in ended.items()
        }
        disks = self.tables.rows("SELECT backup_job_id, disk_index, status, bytes_transferred FROM backup_disks")
        assert [row for row in sorted(disks) if row[0] in ended] == [
            (job, index, "completed", DISK_BYTES) for job in ended for index in (0, 1)
        ]
        samples = self.history()
        assert all(crowd.told[job].numbers <= samples[job] for job, place in ended.items() if place % 2 == 0)


@pytest.fixture
def pair(migrated_database: DatabaseSettings, mariadb_server: PrivateMariaDB, tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        hubs = []
        for name in ("one", "two"):
            directory = tmp_path / name
            directory.mkdir()
            hubs.append(stack.enter_context(RealHub(directory, hub_settings(migrated_database), mariadb_server)))
        pair = Pair(hubs, mariadb_server, migrated_database)
        stack.callback(pair.tables.close)
        yield pair


async def test_what_is_acknowledged_is_there_and_nothing_goes_backwards(pair: Pair) -> None:
    crowd = pair.crowd(seed=1)
    with pair.watcher() as watcher:
        await crowd.speak()
    assert set(crowd.statuses) == {204}
    pair.judge(crowd, watcher)
    assert {"applied", "stale", "duplicate", "final"} <= {word for told in crowd.told.values() for word in told.results}


async def test_another_program_in_the_way_costs_nobody_an_update(pair: Pair) -> None:
    """It locks in another order than the hubs do: what deadlocks is tried again."""
    crowd = pair.crowd(seed=2)
    with pair.watcher() as watcher, Meddler(pair.server, pair.database, JOBS, seed=2) as meddler:
        await crowd.speak()
    assert meddler.cancelled
    assert set(crowd.statuses) == {204} or meddler.longest_seconds > LOCK_WAIT_SECONDS / 2
    pair.judge(crowd, watcher, meddler.cancelled)


async def test_what_was_acknowledged_by_a_hub_that_is_killed_is_there(pair: Pair) -> None:
    crowd = pair.crowd(seed=3)

    async def kill_one_after_the_other() -> None:
        for victim, hub in enumerate(pair.hubs, 1):
            while crowd.sent < 600 * victim:
                await asyncio.sleep(0.005)
            hub.kill()
            while crowd.sent < 600 * victim + 200:
                await asyncio.sleep(0.005)
            hub.start()

    with pair.watcher() as watcher:
        await asyncio.gather(crowd.speak(), kill_one_after_the_other())
    assert set(crowd.statuses) <= {204, 503}
    assert crowd.refused
    pair.judge(crowd, watcher)


async def test_a_row_that_another_program_holds_costs_only_its_own_sender(pair: Pair) -> None:
    """Rows that the other hub locks while it waits for that one are not taken for held by another program."""
    crowd = pair.crowd(seed=4)

    async def hold() -> None:
        with pair.server.connect(pair.database) as connection, connection.cursor() as cursor:
            connection.begin()
            cursor.execute("SELECT * FROM backup_jobs WHERE id = 'job-07' FOR UPDATE")
            async with asyncio.timeout(20):
                while not crowd.told["job-07"].failed:
                    await asyncio.sleep(0.01)
            connection.rollback()

    with pair.watcher() as watcher:
        await asyncio.gather(crowd.speak(), hold())
    assert [job for job, told in crowd.told.items() if told.failed] == ["job-07"]
    pair.judge(crowd, watcher)
