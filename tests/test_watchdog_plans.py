"""How MariaDB answers the sweep: from indexes, and at a cost that does not know how many jobs have finished."""

from collections.abc import Iterator

import pytest

from sha_daemon.config import DatabaseSettings
from sha_daemon.job_types import BACKUP
from sha_daemon.statements import Statements
from tests.support.databases import OnMariaDB
from tests.support.live_hub import LIVE_HUB, Hub
from tests.test_reading_plans import Step, plan

pytestmark = pytest.mark.integration

SQL = Statements(BACKUP)
RUNNING = 200


@pytest.fixture(params=["own tables", "live hub"])
def crowded(request: pytest.FixtureRequest, empty_database: DatabaseSettings) -> Iterator[OnMariaDB]:
    """20,000 jobs, one in a hundred of them running: half of these silent, and ten that never sent telemetry."""
    prepared = Hub(empty_database)
    more, values = "", ""
    if request.param == "live hub":
        prepared.run(LIVE_HUB.read_text())
        more, values = ", vm_context_id, repository_id, repository_path", ", 'repl-pgtest1', 'repo-1', '/b'"
    prepared.migrate()
    prepared.link.close()
    hub = OnMariaDB(empty_database)
    hub.execute(
        f"INSERT INTO backup_jobs (id, vm_name, backup_type, status, telemetry_heard_us, last_telemetry_at{more})"
        " SELECT CONCAT('job-', seq), 'vm', 'full', IF(seq MOD 100, 'completed', 'running'), seq,"
        f" IF(seq MOD 2000, UTC_TIMESTAMP(), NULL){values} FROM seq_1_to_20000"
    )
    hub.execute("ANALYZE TABLE backup_jobs")
    yield hub
    hub.close()


def step(hub: OnMariaDB, statement: str, *values: object) -> Step:
    (found,) = plan(hub, statement, *values).values()
    return found


def test_silent_jobs_stand_in_an_index(crowded: OnMariaDB) -> None:
    found = step(crowded, SQL.silent_jobs(), 10_000, 10_000)
    assert (found.access, found.key) == ("range", "idx_telemetry_silence")
    assert "Using index" in found.extra.split("; ")
    assert "filesort" not in found.extra
    assert found.rows <= RUNNING


def test_a_sweep_that_finds_nobody_silent_looks_at_one_place_of_the_index(crowded: OnMariaDB) -> None:
    assert step(crowded, SQL.silent_jobs(), 50, 10_000).rows == 1


def test_jobs_never_heard_stand_in_an_index(crowded: OnMariaDB) -> None:
    found = step(crowded, SQL.never_heard(), 10_000)
    assert (found.access, found.key) == ("ref", "idx_last_telemetry")
    assert found.rows <= 20
    assert "Using index" in found.extra.split("; ")


def test_jobs_without_a_reading_are_found_by_the_index(crowded: OnMariaDB) -> None:
    found = step(crowded, SQL.unseen())
    assert (found.access, found.key, found.rows) == ("ref", "idx_telemetry_silence", 1)


def test_a_verdict_and_hearing_lock_a_row_by_its_primary_key_and_nothing_before_it(crowded: OnMariaDB) -> None:
    verdict = ("2025-10-10", "stalled", "2025-10-10", "stalled", "job-100", "job-100", 10_000)
    heard = ("2025-10-10", 5, "job-100", "job-100")
    for statement, values in ((SQL.fail_silent(), verdict), (SQL.hear(1), heard)):
        found = step(crowded, statement, *values)
        assert (found.access, found.key, found.rows) == ("range", "PRIMARY", 1)
