"""The migrations on every kind of hub they will meet, on a real MariaDB."""

import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sha_daemon import migrations, schema
from sha_daemon.config import DatabaseSettings
from sha_daemon.database import DatabaseError, Session
from sha_daemon.job_types import BACKUP
from sha_daemon.mariadb import MariaDB, connect
from sha_daemon.records import Disk
from tests.support.live_hub import ALL, LIVE_HUB, ZERO_REPAIRED, Hub

ROOT = Path(__file__).parent.parent


@pytest.fixture
def hub(empty_database: DatabaseSettings) -> Iterator[Hub]:
    hub = Hub(empty_database)
    yield hub
    hub.link.close()


@pytest.fixture
def live_hub(hub: Hub) -> Hub:
    hub.run(LIVE_HUB.read_text())
    return hub


def test_every_file_says_why_it_exists() -> None:
    files = sorted(migrations.directory().glob("*.sql"))
    assert [file.stem for file in files] == [migration.name for migration in ALL]
    assert all(re.match(r"-- Why: .{40}", file.read_text()) for file in files)


def test_an_empty_database_gets_all_that_the_hub_needs(hub: Hub) -> None:
    assert schema.missing(hub.link, BACKUP)
    hub.migrate()
    assert schema.missing(hub.link, BACKUP) == []


def test_a_second_run_has_nothing_to_do(hub: Hub) -> None:
    hub.migrate()
    before = hub.shape()
    assert migrations.apply(hub.link, hub.name, ALL) == ()
    assert hub.shape() == before


def test_a_live_hub_keeps_its_columns_and_rows(live_hub: Hub) -> None:
    before = live_hub.shape()
    live_hub.migrate()
    assert set(before) < set(live_hub.shape())
    assert schema.missing(live_hub.link, BACKUP) == []
    assert live_hub.link.rows("SELECT COUNT(*) FROM backup_jobs")[0][0] == 5


def test_the_columns_are_those_that_were_promised(live_hub: Hub) -> None:
    live_hub.migrate()
    types = {(row[0], row[1]): (row[2], row[4]) for row in live_hub.shape()}
    assert types["backup_jobs", "current_phase"] == ("varchar(50)", "'pending'")
    assert types["backup_jobs", "transfer_speed_bps"] == ("bigint(20)", "0")
    assert types["backup_jobs", "eta_seconds"] == ("int(11)", "0")
    assert types["backup_jobs", "progress_percent"] == ("decimal(5,2)", "0.00")
    assert types["backup_jobs", "last_telemetry_at"] == ("datetime", "NULL")
    assert types["backup_disks", "progress_percent"] == ("decimal(5,2)", "0.00")
    assert ("backup_jobs", "idx_last_telemetry") in types


def test_finished_jobs_left_at_zero_are_repaired_and_counted(live_hub: Hub) -> None:
    assert live_hub.migrate()[ZERO_REPAIRED] == 1
    figures = "bytes_transferred, progress_percent, current_phase, total_bytes"
    assert live_hub.job("finished-zero", figures) == (45_678_901_234, 100.0, "completed", 109_521_739_776)


@pytest.mark.parametrize(
    ("job_id", "moved"), [("finished-right", 4096), ("finished-empty", 0), ("failed-zero", 0), ("running-1", 0)]
)
def test_the_repair_leaves_other_jobs_alone(live_hub: Hub, job_id: str, moved: int) -> None:
    live_hub.migrate()
    assert live_hub.job(job_id, "bytes_transferred, current_phase") == (moved, "pending")


SOME = "ALTER TABLE backup_jobs ADD COLUMN current_phase VARCHAR(255), ADD COLUMN progress_percent DOUBLE DEFAULT 0;"
EVERY = f"""{SOME}
ALTER TABLE backup_jobs ADD COLUMN transfer_speed_bps BIGINT DEFAULT 0, ADD COLUMN eta_seconds INT DEFAULT 0,
  ADD COLUMN last_telemetry_at DATETIME NULL;
ALTER TABLE backup_disks ADD COLUMN progress_percent DOUBLE DEFAULT 0;
CREATE INDEX idx_last_telemetry ON backup_jobs (status, last_telemetry_at);
UPDATE backup_jobs SET last_telemetry_at = '2025-10-05 02:00:00' WHERE id = 'running-1';
"""


@pytest.mark.parametrize("already", [SOME, EVERY], ids=["some", "every"])
def test_a_hub_that_has_telemetry_columns_already_passes(live_hub: Hub, already: str) -> None:
    live_hub.run(already)
    assert live_hub.migrate()[ZERO_REPAIRED] == 1
    assert schema.missing(live_hub.link, BACKUP) == []
    assert live_hub.job("finished-zero", "progress_percent, current_phase") == (100.0, "completed")


def test_running_jobs_of_an_older_hub_count_as_heard_now(live_hub: Hub) -> None:
    live_hub.run(EVERY)
    assert live_hub.migrate()["running jobs of an older hub, counted as heard now"] == 1
    assert live_hub.job("running-1", "telemetry_heard_us") == (0,)
    assert live_hub.job("finished-zero", "telemetry_heard_us") == (None,)


@pytest.mark.parametrize("after", range(1, sum(len(migration.statements) for migration in ALL)))
def test_a_run_killed_after_any_statement_is_finished_by_the_next(hub: Hub, after: int) -> None:
    hub.run(LIVE_HUB.read_text())
    statements = [statement.text for migration in ALL for statement in migration.statements]
    for statement in statements[:after]:
        hub.link.execute(statement)
    hub.migrate()
    assert schema.missing(hub.link, BACKUP) == []
    assert hub.job("finished-zero", "bytes_transferred") == (45_678_901_234,)


LOST = {
    "backup_jobs.telemetry_seq": "ALTER TABLE backup_jobs DROP COLUMN telemetry_seq",
    "index idx_telemetry_silence of backup_jobs": "DROP INDEX idx_telemetry_silence ON backup_jobs",
    "index idx_last_telemetry of backup_jobs": "DROP INDEX idx_last_telemetry ON backup_jobs",
    "index idx_job_chart of telemetry_history": "DROP INDEX idx_job_chart ON telemetry_history",
    "telemetry_history": "DROP TABLE telemetry_history",
    "the row of telemetry_listening": "DELETE FROM telemetry_listening",
}


@pytest.mark.parametrize("what", LOST)
def test_what_was_applied_and_is_lost_is_named_and_can_be_applied_again(hub: Hub, what: str) -> None:
    """Another program restored tables of an earlier time, say: the record of the migrations knows nothing of it."""
    hub.migrate()
    before = hub.shape()
    hub.link.execute(LOST[what])
    assert schema.missing(hub.link, BACKUP) == [what]
    assert migrations.pending(hub.link, hub.name, ALL) == ()
    assert [applied.name for applied in migrations.applying(hub.link, hub.name, ALL, again=True)] == [
        migration.name for migration in ALL
    ]
    assert (schema.missing(hub.link, BACKUP), hub.shape()) == ([], before)


def test_a_listening_clock_that_was_lost_begins_above_what_the_jobs_have_of_it(live_hub: Hub) -> None:
    """Below, a dead job would be audible until the clock is there again, for as long as hubs had listened before."""
    live_hub.migrate()
    live_hub.link.execute("UPDATE backup_jobs SET telemetry_heard_us = 7000000 WHERE id = 'running-1'")
    live_hub.link.execute("DELETE FROM telemetry_listening")
    assert len(list(migrations.applying(live_hub.link, live_hub.name, ALL, again=True))) == len(ALL)
    assert live_hub.link.rows("SELECT listened_us FROM telemetry_listening") == ((7_000_000,),)


def test_a_hub_that_has_samples_already_gets_the_index_of_its_charts_and_keeps_them(hub: Hub) -> None:
    before = [migration for migration in ALL if migration.name < "20251015"]
    migrations.apply(hub.link, hub.name, before)
    hub.link.execute(
        "INSERT INTO telemetry_history (job_id, at, status, current_phase, bytes_transferred, total_bytes,"
        " transfer_speed_bps, progress_percent) SELECT 'job-1', NOW(3), 'running', '', seq, 9, 9, 9 FROM seq_1_to_9"
    )
    assert [applied.name for applied in migrations.apply(hub.link, hub.name, ALL)][:1] == ["20251015_history_charts"]
    indexes = {row[1] for row in hub.shape() if row[0] == "telemetry_history"}
    assert ("idx_job_chart" in indexes, "idx_job_at" in indexes) == (True, False)
    assert hub.link.rows("SELECT COUNT(*), SUM(bytes_transferred) FROM telemetry_history") == ((9, 45),)


def test_two_runs_at_once_apply_everything_once(hub: Hub) -> None:
    applied: list[str] = []

    def run() -> None:
        link = connect(hub.settings, daemon=False)
        applied.extend(migration.name for migration in migrations.apply(link, hub.name, ALL))
        link.close()

    runs = [threading.Thread(target=run) for _ in range(3)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert applied == [migration.name for migration in ALL]


def test_a_failing_migration_is_named_and_not_recorded(hub: Hub) -> None:
    broken = migrations.Migration("20990101_broken", migrations.parse("UPDATE no_such_table SET a = 1;"))
    with pytest.raises(DatabaseError, match=r"cannot apply 20990101_broken: .*no_such_table"):
        migrations.apply(hub.link, hub.name, [*ALL, broken])
    assert migrations.pending(hub.link, hub.name, [*ALL, broken]) == ("20990101_broken",)


def test_a_statement_without_its_end_is_refused() -> None:
    with pytest.raises(ValueError, match="no `;`: SELECT 1"):
        migrations.parse("SELECT 1\n")


async def test_the_hub_works_on_the_live_hubs_tables(live_hub: Hub) -> None:
    """Its disks' foreign keys are such that this server takes no new disk: that is told, and the job is written."""
    live_hub.migrate()
    database = MariaDB(live_hub.settings)

    def work(session: Session) -> object:
        job = session.lock_jobs(["running-1", "RUNNING-1"]).jobs["running-1"]
        session.write_jobs([job])
        return session.write_disks([(job, disk) for disk in job.disks] + [(job, Disk(disk_index=1))])

    assert await database.run(work) == [("running-1", 1)]
    view = await database.run(lambda session: session.job("finished-zero"))
    assert view is not None
    assert [disk.bytes_transferred for disk in view.job.disks] == [42_949_672_960, 2_729_228_274]
    await database.close()


def test_the_wheel_carries_the_migrations(tmp_path: Path) -> None:
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        shipped = {Path(name).stem for name in files.namelist() if name.startswith("sha_daemon/sql/")}
    assert shipped == {migration.name for migration in ALL}
