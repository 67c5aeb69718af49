"""What only a real server shows: plans, locks, lost connections, several hubs at once."""

import asyncio
import json
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec import structs

from sha_daemon import statements
from sha_daemon.config import DatabaseSettings
from sha_daemon.database import (
    DatabaseAway,
    DatabaseConflict,
    DatabaseError,
    DatabaseMissing,
    RowLocked,
    RowRefused,
    SchemaMissing,
    Session,
)
from sha_daemon.job_types import BACKUP
from sha_daemon.mariadb import MariaDB
from sha_daemon.mariadb_errors import NotAllowed, translated
from sha_daemon.records import Disk, Job
from testbed.mariadb import PrivateMariaDB
from tests.support.databases import OnMariaDB

pytestmark = pytest.mark.integration

SQL = statements.Statements(BACKUP)
RUNNING = Job(job_id="job-1", status="running")


@pytest.fixture
async def hub(migrated_database: DatabaseSettings) -> AsyncIterator[OnMariaDB]:
    hub = OnMariaDB(migrated_database)
    yield hub
    await hub.database.close()
    hub.close()


@pytest.fixture
async def other(migrated_database: DatabaseSettings) -> AsyncIterator[MariaDB]:
    """A second hub on the same database, of little patience."""
    database = MariaDB(structs.replace(migrated_database, timeout_seconds=2))
    yield database
    await database.close()


@pytest.fixture
def own_server() -> Iterator[PrivateMariaDB]:
    """One that a test may kill."""
    with tempfile.TemporaryDirectory(prefix="telemetry-") as directory, PrivateMariaDB(Path(directory)) as server:
        yield server


def count(session: Session) -> dict[str, int]:
    return session.counts()


def plan(hub: OnMariaDB, statement: str, *values: object) -> dict[str, tuple[object, ...]]:
    """(access type, key, rows) by table alias."""
    hub.execute("ANALYZE TABLE backup_jobs, backup_disks")
    return {row[2]: (row[3], row[5], int(row[8])) for row in hub.rows(f"EXPLAIN {statement}", *values)}


@pytest.fixture
def crowded(hub: OnMariaDB) -> OnMariaDB:
    """2,000 finished jobs, 20 running, two disks each."""
    hub.execute(
        "INSERT INTO backup_jobs (id, vm_name, backup_type, status, telemetry_heard_us)"
        " SELECT CONCAT('job-', seq), 'vm', 'full', IF(seq <= 20, 'running', 'completed'), seq FROM seq_1_to_2020"
    )
    hub.execute(
        "INSERT INTO backup_disks (backup_job_id, disk_index)"
        " SELECT CONCAT('job-', j.seq), d.seq FROM seq_1_to_2020 j, seq_0_to_1 d"
    )
    return hub


async def test_jobs_are_written_by_primary_key(crowded: OnMariaDB) -> None:
    row = '[["job-7", "running", 1, 1, 1, 1, 1, null, null, null, 1, null, 1, null]]'
    assert plan(crowded, SQL.write_jobs("utf8mb4_unicode_ci"), row)["j"] == ("eq_ref", "PRIMARY", 1)
    texts = '[["job-7", "x", null, null]]'
    assert plan(crowded, SQL.write_texts("utf8mb4_unicode_ci"), texts)["j"] == ("eq_ref", "PRIMARY", 1)


async def test_figures_are_written_without_a_table_on_disk(crowded: OnMariaDB) -> None:
    rows = ", ".join(f'["job-{n}", "running", 1, 1, 1, 1, 1, null, null, null, 1, null, 1, null]' for n in range(500))
    on_disk = "SHOW SESSION STATUS LIKE 'Created_tmp_disk_tables'"
    before = crowded.rows(on_disk)
    crowded.execute(SQL.write_jobs("utf8mb4_unicode_ci"), f"[{rows}]")
    assert crowded.rows(on_disk) == before


async def test_disks_are_written_by_primary_key(crowded: OnMariaDB) -> None:
    assert plan(crowded, SQL.write_disks(), '[[1, "running", 1, 1, 1, null]]')["d"] == ("eq_ref", "PRIMARY", 1)


async def test_jobs_are_seen_by_primary_key_however_many(crowded: OnMariaDB) -> None:
    ids = json.dumps([[f"job-{n}"] for n in range(1, 2001)])
    assert plan(crowded, SQL.see("utf8mb4_unicode_ci"), ids, 1)["j"] == ("eq_ref", "PRIMARY", 1)


async def test_jobs_and_disks_are_locked_by_their_ids(crowded: OnMariaDB) -> None:
    for collation in ("utf8mb4_unicode_ci", "utf8mb4_general_ci"):
        crowded.execute("ALTER TABLE backup_disks DROP FOREIGN KEY IF EXISTS fk_backup_disks_job")
        crowded.execute(f"ALTER TABLE backup_disks CONVERT TO CHARACTER SET utf8mb4 COLLATE {collation}")
        for count_of_ids in (3, 100, 500):
            some = [f"job-{n}" for n in range(count_of_ids)]
            found = plan(crowded, SQL.lock_jobs(count_of_ids, "uk_job_disk", collation), *some)
            assert (found["j"][:2], found["d"][:2]) == (("range", "PRIMARY"), ("ref", "uk_job_disk"))


async def test_tables_that_are_not_there_are_named(empty_database: DatabaseSettings) -> None:
    database = MariaDB(empty_database)
    with pytest.raises(SchemaMissing, match=r"backup_jobs, backup_disks, .* are missing; run `shactl db migrate`"):
        await database.run(count)
    await database.close()


async def test_a_column_that_is_not_there_is_named(hub: OnMariaDB) -> None:
    hub.execute("ALTER TABLE backup_jobs DROP COLUMN watchdog_message")
    with pytest.raises(SchemaMissing, match=r"backup_jobs\.watchdog_message is missing"):
        await hub.database.run(count)


async def test_what_is_longer_than_the_server_takes_in_one_statement_goes_in_several(hub: OnMariaDB) -> None:
    """It hangs up on a longer one: the same updates would meet a lost connection again and again."""
    names = [f"job-{n}" for n in range(60)]
    disks = tuple(Disk(disk_index=n, bytes_transferred=2**60, total_bytes=2**61) for n in range(100))
    worst = [Job(job_id=name, status="running", error_message="\\" * 16_000, disks=disks) for name in names]

    def work(session: Session) -> None:
        session.lock_jobs(names)
        session.write_jobs(worst)
        session.write_texts(worst)
        session.write_disks([(job, disk) for job in worst for disk in job.disks])

    hub.execute("SET GLOBAL max_allowed_packet = 1048576")
    try:
        for name in names:
            hub.add_job(Job(job_id=name, status="running"))
        await hub.database.run(work)
    finally:
        hub.execute("SET GLOBAL max_allowed_packet = DEFAULT")
    assert hub.rows("SELECT COUNT(*), MIN(LENGTH(error_message)) FROM backup_jobs") == [(60, 16_000)]
    assert hub.rows("SELECT COUNT(*), MIN(bytes_transferred) FROM backup_disks") == [(6000, 2**60)]


async def test_a_database_that_is_not_there_is_said_to_be_missing(migrated_database: DatabaseSettings) -> None:
    database = MariaDB(structs.replace(migrated_database, name="nowhere"))
    with pytest.raises(SchemaMissing, match="nowhere"):
        await database.run(count)
    await database.close()


async def test_the_server_says_whether_commits_are_durable(hub: OnMariaDB) -> None:
    assert await hub.database.run(lambda session: session.durable())
    assert hub.database.tables is not None
    assert hub.database.tables.id_collation == "utf8mb4_unicode_ci"


async def test_a_user_the_server_does_not_know_is_told_what_to_do(migrated_database: DatabaseSettings) -> None:
    database = MariaDB(structs.replace(migrated_database, user="stranger"))
    with pytest.raises(NotAllowed, match="shactl db setup"):
        await database.run(count)
    await database.close()


async def test_where_nobody_listens_the_database_is_away(tmp_path: Path) -> None:
    database = MariaDB(DatabaseSettings(socket=str(tmp_path / "none.sock")))
    with pytest.raises(DatabaseAway, match=r"cannot reach MariaDB at .*none\.sock: No such file"):
        await database.run(count)
    await database.close()


async def test_a_row_the_server_refuses_leaves_the_connection_usable(hub: OnMariaDB) -> None:
    hub.add_job(RUNNING)
    with pytest.raises(RowRefused, match="current_phase"):
        await hub.database.run(lambda session: session.write_texts([structs.replace(RUNNING, current_phase="x" * 51)]))
    assert await hub.database.run(count) == {"pending": 0, "running": 1}


async def test_waiting_for_anothers_lock_is_short_and_says_so(hub: OnMariaDB, other: MariaDB) -> None:
    hub.add_job(RUNNING)
    hub.execute("START TRANSACTION")
    hub.execute("SELECT * FROM backup_jobs FOR UPDATE")
    with pytest.raises(RowLocked, match="1205"):
        await other.run(lambda session: session.lock_jobs(["job-1"]))
    hub.execute("ROLLBACK")
    assert list((await other.run(lambda session: session.lock_jobs(["job-1"]))).jobs) == ["job-1"]


async def test_a_connection_killed_while_idle_is_replaced_unnoticed(
    hub: OnMariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sha_daemon.mariadb._IDLE_SECONDS", 0.0)
    await hub.database.run(count)
    for (connection,) in hub.rows("SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID()"):
        hub.execute(f"KILL {connection}")
    assert await hub.database.run(count) == {"pending": 0, "running": 0}


async def test_a_connection_killed_in_a_transaction_is_away_and_then_back(hub: OnMariaDB) -> None:
    hub.add_job(RUNNING)

    def work(session: Session) -> None:
        session.write_jobs([structs.replace(RUNNING, bytes_transferred=5)])
        for (connection,) in hub.rows("SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID()"):
            hub.execute(f"KILL {connection}")

    with pytest.raises(DatabaseAway):
        await hub.database.run(work)
    assert (await hub.database.run(lambda session: session.lock_jobs(["job-1"]))).jobs["job-1"].bytes_transferred == 0


async def test_a_server_killed_and_started_again_is_found_again(own_server: PrivateMariaDB) -> None:
    settings = DatabaseSettings(name="mysql", user=own_server.user, socket=str(own_server.socket))
    database = MariaDB(settings)
    own_server.kill()
    with pytest.raises(DatabaseAway):
        await database.run(count)
    own_server.start()
    with pytest.raises(SchemaMissing):
        await database.run(count)
    await database.close()


async def test_a_cancelled_caller_does_not_undo_the_work(hub: OnMariaDB) -> None:
    hub.add_job(RUNNING)
    begun, go_on = threading.Event(), threading.Event()

    def work(session: Session) -> None:
        begun.set()
        go_on.wait(10)
        session.write_jobs([structs.replace(RUNNING, bytes_transferred=5)])

    caller = asyncio.create_task(hub.database.run(work))
    await asyncio.to_thread(begun.wait, 10)
    assert hub.database.busy_since() is not None
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    assert (await hub.database.run(lambda session: session.lock_jobs(["job-1"]))).jobs["job-1"].bytes_transferred == 5


async def test_two_hubs_count_each_second_once(hub: OnMariaDB, other: MariaDB) -> None:
    await other.run(lambda session: session.advance_listening(0))
    began = hub.rows("SELECT listened_us, advanced_at FROM telemetry_listening")[0]
    for _ in range(20):
        await asyncio.gather(*(db.run(lambda s: s.advance_listening(10**9)) for db in (hub.database, other)))
    ended = hub.rows("SELECT listened_us, advanced_at FROM telemetry_listening")[0]
    elapsed_us = (ended[1] - began[1]).total_seconds() * 1e6
    assert elapsed_us * 0.99 <= ended[0] - began[0] <= elapsed_us


async def test_a_database_clock_stepped_back_counts_for_nothing(hub: OnMariaDB) -> None:
    hub.execute("UPDATE telemetry_listening SET advanced_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR")
    assert await hub.database.run(lambda session: session.advance_listening(10**9)) == 0
    await asyncio.sleep(0.001)
    assert await hub.database.run(lambda session: session.advance_listening(500)) == 500


async def test_an_end_and_a_verdict_in_the_same_moment_leave_the_end(
    hub: OnMariaDB, other: MariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end is written while the verdict waits for the row: for as long as this machine may take."""
    monkeypatch.setattr("sha_daemon.statements.LOCK_WAIT_SECONDS", 60)
    hub.add_job(RUNNING)
    await hub.database.run(lambda session: session.hear(["job-1"], 1_760_000_000, 1))
    hub.execute("START TRANSACTION")
    hub.execute("UPDATE backup_jobs SET status = 'completed' WHERE id = 'job-1'")
    verdict = asyncio.create_task(other.run(lambda session: session.fail_silent("job-1", 10, 1_760_000_300, "stalled")))
    waiting = "SELECT 1 FROM information_schema.processlist WHERE info LIKE 'UPDATE%stalled%'"
    while not hub.rows(waiting):
        assert not verdict.done()
        await asyncio.sleep(0.005)
    hub.execute("COMMIT")
    assert await verdict is False
    assert hub.rows("SELECT status, error_message FROM backup_jobs") == [("completed", None)]


@pytest.mark.parametrize(
    ("codes", "meaning"),
    [
        ([1213, 1020], DatabaseConflict),
        ([1205], RowLocked),
        ([1146, 1054, 1176], SchemaMissing),
        ([1049], DatabaseMissing),
        ([1045, 1698, 1044, 1142], NotAllowed),
        ([0, 2002, 2003, 2006, 2013, 1047, 1053, 1040, 1114, 1927, 1969], DatabaseAway),
        ([1062, 1406, 1264, 1452, 1153, 4025], RowRefused),
    ],
)
def test_every_error_number_has_its_meaning(codes: list[int], meaning: type[DatabaseError]) -> None:
    assert {type(translated(code, "text")) for code in codes} == {meaning}
