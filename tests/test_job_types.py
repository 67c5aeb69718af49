"""Another kind of job is one more entry: its tables and its words for the statuses, and no second code path."""

from collections.abc import AsyncIterator

import pytest

from sha_daemon.config import DatabaseSettings, HubSettings
from sha_daemon.job_types import BACKUP, JobType, StatusNames
from testbed.mariadb import PrivateMariaDB
from tests.support.hub import running_hub
from tests.support.world import World

pytestmark = pytest.mark.integration

REPLICATION = JobType(
    name="replication",
    jobs_table="replication_jobs",
    disks_table="replication_disks",
    disk_job_column="replication_job_id",
    job_statuses=StatusNames(
        {
            "pending": "queued",
            "running": "replicating",
            "completed": "done",
            "failed": "broken",
            "cancelled": "stopped",
        }
    ),
    disk_statuses=StatusNames({"pending": "queued", "running": "copying", "completed": "done", "failed": "broken"}),
)
TABLES = (
    "CREATE TABLE replication_jobs LIKE backup_jobs",
    "ALTER TABLE replication_jobs"
    " MODIFY status ENUM('queued', 'replicating', 'done', 'broken', 'stopped') NOT NULL DEFAULT 'queued'",
    "CREATE TABLE replication_disks LIKE backup_disks",
    "ALTER TABLE replication_disks CHANGE backup_job_id replication_job_id VARCHAR(64) NOT NULL,"
    " MODIFY status ENUM('queued', 'copying', 'done', 'broken') DEFAULT 'queued'",
)
PATH = "/api/v1/telemetry/replication"


@pytest.fixture
async def world(
    mariadb_server: PrivateMariaDB, migrated_database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """A hub that knows both kinds; the same id is a job of each."""
    with mariadb_server.connect(migrated_database.name) as connection, connection.cursor() as cursor:
        for statement in TABLES:
            cursor.execute(statement)
        cursor.execute("INSERT INTO replication_jobs (id, vm_name, backup_type) VALUES ('j1', 'pg', 'full')")
    monkeypatch.setattr("sha_daemon.app.JOB_TYPES", (BACKUP, REPLICATION))
    async with running_hub(HubSettings(database=migrated_database)) as (hub, client):
        yield World(hub, client, mariadb_server, migrated_database.name)


async def post(world: World, **says: object) -> str | None:
    async with world.client.post(f"{PATH}/j1", json=says) as answer:
        assert answer.status == 204
        return answer.headers.get("Telemetry-Result")


def rows(world: World) -> list[tuple[object, ...]]:
    jobs = "SELECT status, bytes_transferred FROM replication_jobs"
    return world.sql(f"{jobs} UNION ALL SELECT status, bytes_transferred FROM replication_disks")


async def test_it_is_stored_in_its_own_tables_by_its_own_words(world: World) -> None:
    world.add("j1", disks=1)
    disks = [{"disk_index": index, "status": "transferring", "bytes_transferred": 5} for index in (0, 1)]
    assert await post(world, status="running", seq=1, disks=disks) is None
    assert rows(world) == [("replicating", 0), ("copying", 5), ("copying", 5)]
    assert await post(world, status="completed", job_type="replication", seq=2) is None
    assert await post(world, status="failed", seq=3) == "final"
    assert rows(world) == [("done", 10), ("done", 5), ("done", 5)]
    assert world.stored("j1", "status, bytes_transferred, telemetry_seq") == ("running", 0, None)
    assert world.sql("SELECT job_type, seq, status FROM telemetry_history ORDER BY seq") == [
        ("replication", 1, "running"),
        ("replication", 2, "completed"),
    ]


async def test_it_is_read_in_the_words_of_the_contract(world: World) -> None:
    await post(world, status="running", bytes_transferred=7)
    status, job = await world.get(f"{PATH}/j1")
    assert (status, job["job_type"], job["status"], job["bytes_transferred"]) == (200, "replication", "running", 7)
    _, page = await world.get(f"{PATH}?status=running")
    assert [job["job_id"] for job in page["jobs"]] == ["j1"]
    _, report = await world.get("/api/v1/health")
    assert report["status"] == "ok"


async def test_a_kind_that_is_not_known_is_told_which_are(world: World) -> None:
    async with world.client.post("/api/v1/telemetry/restore/j1", json={"status": "running"}) as answer:
        assert answer.status == 404
        assert (await answer.json(content_type=None))["detail"] == (
            "unknown job type 'restore'; this hub knows: backup, replication"
        )
