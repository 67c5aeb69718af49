"""How MariaDB answers what readers ask: by which index, and what it reads for it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sha_daemon import history_statements, statements
from sha_daemon.config import DatabaseSettings
from sha_daemon.history_statements import HistoryStatements
from sha_daemon.job_types import BACKUP
from tests.support.databases import OnMariaDB
from tests.support.live_hub import LIVE_HUB, Hub

pytestmark = pytest.mark.integration

LIST = statements.Statements(BACKUP).list_jobs
HISTORY = HistoryStatements(BACKUP)
STRETCH = ("job-1", "2025-10-02", "2025-10-02", 5, "2025-10-03", "2025-10-03", 50_000)


@dataclass
class Step:
    """One table of a plan."""

    table: str
    access: str
    key: str
    rows: int
    extra: str


def plan(hub: OnMariaDB, statement: str, *values: object) -> dict[str, Step]:
    found = hub.rows(f"EXPLAIN {statement}", *values)
    steps = [Step(row[2], row[3], row[5], int(row[8] or 0), row[9]) for row in found]
    return {step.table: step for step in steps}


@pytest.fixture(params=["own tables", "live hub"])
def crowded(request: pytest.FixtureRequest, empty_database: DatabaseSettings) -> Iterator[OnMariaDB]:
    """20,000 jobs, one in a hundred of them running, on either kind of tables. (A few thousand would all be sorted.)"""
    prepared = Hub(empty_database)
    more, values = "", ""
    if request.param == "live hub":
        prepared.run(LIVE_HUB.read_text())
        more, values = ", vm_context_id, repository_id, repository_path", ", 'repl-pgtest1', 'repo-1', '/b'"
    prepared.migrate()
    prepared.link.close()
    hub = OnMariaDB(empty_database)
    hub.execute(
        f"INSERT INTO backup_jobs (id, vm_name, backup_type, status, created_at{more})"
        " SELECT CONCAT('job-', seq), CONCAT('web', seq MOD 20), 'full', IF(seq MOD 100, 'completed', 'running'),"
        f" FROM_UNIXTIME(1760000000 + seq){values} FROM seq_1_to_20000"
    )
    hub.execute("ANALYZE TABLE backup_jobs")
    yield hub
    hub.close()


def test_a_page_of_the_list_reads_no_more_jobs_than_it_shows(crowded: OnMariaDB) -> None:
    for named in (False, True):
        step = plan(crowded, LIST(0, "", named=named), *["%web%"][: int(named)], 101)["j"]
        assert (step.access, step.key[:11], step.rows) == ("index", "idx_created", 101)
    later = plan(crowded, LIST(0, statements.AFTER_TIME), "2025-10-09 09:00", "2025-10-09 09:00", "job-5", 101)["j"]
    assert (later.access, later.key[:11], "filesort" in later.extra) == ("range", "idx_created", False)
    common = plan(crowded, LIST(1, ""), "completed", 101)["j"]
    assert (common.access, common.key[:11], "filesort" in common.extra) == ("index", "idx_created", False)
    rare = plan(crowded, LIST(1, ""), "running", 101)["j"]
    assert (rare.access, rare.rows <= 250) == ("ref", True)


@pytest.fixture
def hub(migrated_database: DatabaseSettings) -> Iterator[OnMariaDB]:
    """9,000 samples of three jobs, one a minute."""
    hub = OnMariaDB(migrated_database)
    hub.execute(
        "INSERT INTO telemetry_history (job_id, seq, at, status, current_phase, bytes_transferred, total_bytes,"
        " transfer_speed_bps, progress_percent)"
        " SELECT CONCAT('job-', seq MOD 3), seq, '2025-10-01' + INTERVAL seq MINUTE, 'running', 'transferring', seq,"
        " 3000, 1000, 1 FROM seq_1_to_9000"
    )
    hub.execute("ANALYZE TABLE telemetry_history")
    yield hub
    hub.close()


@pytest.mark.parametrize("statement", [HISTORY.stretch(), HISTORY.changes()], ids=["stretch", "changes"])
def test_a_stretch_of_a_history_is_told_by_the_index_alone(hub: OnMariaDB, statement: str) -> None:
    values = STRETCH if "LIMIT" not in statement else (*STRETCH, 10)
    step = plan(hub, statement, *values)["telemetry_history"]
    assert (step.access, step.key, "Using index" in step.extra) == ("range", "idx_job_chart", True)
    assert "index condition" not in step.extra
    assert step.rows < 1000


def test_the_next_stretch_is_found_at_its_place_in_the_index(hub: OnMariaDB) -> None:
    step = plan(hub, HISTORY.mark_after(), *STRETCH[:4], 100)["telemetry_history"]
    assert (step.access, step.key, "filesort" in step.extra) == ("range", "idx_job_chart", False)
    step = plan(hub, HISTORY.count_after(), *STRETCH[:4])["telemetry_history"]
    assert (step.access, step.key, "Using index" in step.extra) == ("range", "idx_job_chart", True)
    for statement in (HISTORY.first_mark(), HISTORY.last_mark()):
        step = plan(hub, statement, "job-1")["telemetry_history"]
        assert (step.key, "Using index" in step.extra, "filesort" in step.extra) == ("idx_job_chart", True, False)


def test_chosen_samples_are_read_by_their_ids(hub: OnMariaDB) -> None:
    step = plan(hub, HISTORY.chosen(500), *range(1, 501), "job-1")["telemetry_history"]
    assert (step.access, step.key, step.rows) == ("range", "PRIMARY", 500)


def test_pruning_looks_at_the_oldest_rows_and_deletes_within_them(hub: OnMariaDB) -> None:
    look = plan(hub, history_statements.PRUNE_LOOK, "2025-10-01", "2025-10-09", 0, 1000)["telemetry_history"]
    assert (look.access, look.key, "filesort" in look.extra) == ("range", "PRIMARY", False)
    prune = plan(hub, history_statements.PRUNE, 0, 1000, "2025-10-01")["telemetry_history"]
    assert (prune.access, prune.key) == ("range", "PRIMARY")
