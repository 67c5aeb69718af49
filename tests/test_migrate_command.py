"""`shactl db migrate` as an administrator runs it: what it prints, and what is left when it or its server is killed."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from sha_daemon.database import DatabaseConflict, RowLocked
from testbed.mariadb import PrivateMariaDB
from tests.support.live_hub import ALL, ZERO_REPAIRED
from tests.support.own_server import Command, Machine

pytestmark = pytest.mark.integration

STATEMENTS = [statement.text for migration in ALL for statement in migration.statements]
REPAIRED_ONE = f"  {ZERO_REPAIRED}: 1\n"
Victim = Literal["command", "server"]


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateMariaDB]:
    """Killed as often as a test likes: it recovers in a tenth of a second."""
    with (
        tempfile.TemporaryDirectory(prefix="telemetry-") as directory,
        PrivateMariaDB(Path(directory), "--innodb-flush-method=nosync") as server,
    ):
        yield server


@pytest.fixture
def machine(server: PrivateMariaDB) -> Machine:
    server.start()
    machine = Machine(server)
    machine.live_hub()
    return machine


@pytest.fixture(scope="module")
def never_killed(server: PrivateMariaDB) -> list[tuple[object, ...]]:
    """Shape and content of the live hub after one run in peace."""
    machine = Machine(server)
    machine.live_hub()
    assert machine.shactl("db", "migrate")[0] == 0
    with machine.hub() as hub:
        return hub.shape() + hub.content()


def kill(victim: Victim, machine: Machine, command: Command) -> tuple[int, str, str]:
    """The command's end."""
    if victim == "command":
        command.kill()
    else:
        machine.server.kill()
    return command.end()


def finished(machine: Machine) -> list[tuple[object, ...]]:
    """Shape and content after the next run: also of what is recorded, so of the number that was repaired."""
    machine.server.start()
    code, _, err = machine.shactl("db", "migrate")
    assert (code, err) == (0, "")
    with machine.hub() as hub:
        return hub.shape() + hub.content()


FIRST = f"applied {ALL[0].name}"


def test_the_operator_of_a_live_hub_reads_what_was_applied_and_repaired(machine: Machine) -> None:
    counts = {"20251013_listening_clock": "  running jobs of an older hub, counted as heard now: 0\n"}
    counts |= {"20251014_repair_finished_jobs": REPAIRED_ONE}
    expected = "".join(f"applied {migration.name}\n{counts.get(migration.name, '')}" for migration in ALL)
    assert machine.shactl("db", "migrate") == (0, expected, "")
    assert machine.shactl("db", "migrate") == (0, "nothing to do\n", "")


def test_what_is_lost_behind_the_record_is_told_and_brought_back(machine: Machine) -> None:
    """Where the hub and `db status` say "run `shactl db migrate`", that must help."""
    machine.shactl("db", "migrate")
    machine.sql("ALTER TABLE backup_jobs DROP COLUMN telemetry_seq, DROP INDEX idx_telemetry_silence")
    lost = ["backup_jobs.telemetry_seq", "index idx_telemetry_silence of backup_jobs"]
    said = "".join(f"missing: {what}\n" for what in lost)
    assert machine.shactl("db", "status") == (1, f"{said}database hub: run `shactl db migrate`\n", "")
    code, out, err = machine.shactl("db", "migrate")
    assert (code, out.splitlines()[:3], err) == (0, [f"no longer there: {what}" for what in lost] + [FIRST], "")
    assert machine.shactl("db", "status") == (0, "database hub: up to date\n", "")


@pytest.mark.parametrize(
    ("lost", "how"),
    [
        ("backup_jobs.error_message", "ALTER TABLE backup_jobs DROP COLUMN error_message"),
        ("backup_jobs", "RENAME TABLE backup_jobs TO backup_jobs_aside"),
    ],
)
def test_what_is_shared_with_other_programs_is_not_made_up(machine: Machine, lost: str, how: str) -> None:
    """An empty table in place of one that somebody has put aside would stand in its way."""
    machine.shactl("db", "migrate")
    machine.sql(how)
    code, _, err = machine.shactl("db", "migrate")
    assert (code, err.startswith(f"shactl: cannot make {lost}: ")) == (1, True)
    assert machine.shactl("db", "status")[1].startswith(f"missing: {lost}\n")


ANY_JOB = "SELECT * FROM backup_jobs WHERE id = 'running-1' FOR UPDATE"
ANY_DISK = "SELECT * FROM backup_disks LIMIT 1 FOR UPDATE"
ZERO_JOB = "SELECT * FROM backup_jobs WHERE id = 'finished-zero' FOR UPDATE"
MOMENTS = {
    "columns of jobs": ("ALTER TABLE backup_jobs\n  ADD COLUMN IF NOT EXISTS current_phase", ANY_JOB),
    "index": ("CREATE INDEX IF NOT EXISTS idx_last_telemetry", ANY_JOB),
    "columns of disks": ("ALTER TABLE backup_disks\n  ADD COLUMN IF NOT EXISTS total_bytes", ANY_DISK),
    "running jobs": ("UPDATE backup_jobs\n   SET telemetry_heard_us", ANY_JOB),
    "repair": ("UPDATE backup_jobs AS j", ZERO_JOB),
}


@pytest.mark.parametrize("victim", ["command", "server"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_statement_it_is_finished_by_the_next_run(
    machine: Machine, never_killed: list[tuple[object, ...]], moment: str, victim: Victim
) -> None:
    """Another program's transaction holds it there; what comes before was applied by a run that was killed, too."""
    words, held = MOMENTS[moment]
    (at,) = (place for place, text in enumerate(STATEMENTS) if text.startswith(words))
    for statement in STATEMENTS[:at]:
        machine.sql(statement)
    with machine.held(held):
        command = machine.begin("db", "migrate")
        machine.wait_for(STATEMENTS[at])
        code, _, err = kill(victim, machine, command)
    assert (code, err.startswith("shactl: cannot apply ")) == ((-9, False) if victim == "command" else (2, True))
    assert finished(machine) == never_killed


@pytest.mark.parametrize("victim", ["command", "server"])
def test_killed_on_its_way_again_and_again_it_is_finished_in_the_end(
    machine: Machine, never_killed: list[tuple[object, ...]], victim: Victim
) -> None:
    """Each run is killed as soon as it has said something, wherever it is by then."""
    for _ in ALL:
        command = machine.begin("db", "migrate")
        assert command.stdout is not None
        command.stdout.readline()
        kill(victim, machine, command)
        machine.server.start()
    assert finished(machine) == never_killed


def test_a_server_killed_while_it_builds_an_index_has_all_or_nothing_of_it(machine: Machine) -> None:
    machine.sql(
        "INSERT INTO backup_jobs (id, vm_context_id, vm_name, repository_id, backup_type, status, repository_path)"
        " SELECT CONCAT('many-', seq), 'repl-pgtest1', 'pgtest1', 'repo-1', 'full', 'completed', '' FROM seq_1_to_40000"
    )
    command = machine.begin("db", "migrate")
    machine.wait_for(next(text for text in STATEMENTS if text.startswith("CREATE INDEX IF NOT EXISTS idx_last")))
    code, _, err = kill("server", machine, command)
    assert (code, err[:50]) == (2, "shactl: cannot apply 20251010_telemetry_fields: ca")
    finished(machine)
    assert machine.sql(
        "SELECT COUNT(*) FROM backup_jobs FORCE INDEX (idx_last_telemetry) WHERE status = 'completed'"
    ) == [(40_003,)]
    assert [row[3] for row in machine.sql("CHECK TABLE backup_jobs")] == ["OK"]


def test_two_runs_at_once_apply_everything_once(machine: Machine, never_killed: list[tuple[object, ...]]) -> None:
    runs = [command.end() for command in [machine.begin("db", "migrate") for _ in range(3)]]
    assert [(code, err) for code, _, err in runs] == [(0, "")] * 3
    applied = [line for _, out, _ in runs for line in out.splitlines() if line.startswith("applied")]
    assert applied == [f"applied {migration.name}" for migration in ALL]
    assert finished(machine) == never_killed


def test_a_run_that_waits_in_vain_for_another_says_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sha_daemon.migrations._LOCK_SECONDS", 0)
    with machine.hub() as other, machine.hub() as hub:
        other.link.rows("SELECT GET_LOCK('telemetry_migrations:hub', 0)")
        with pytest.raises(DatabaseConflict, match="another migration of this database is running; try again later"):
            hub.migrate()


def test_a_table_that_another_program_keeps_in_a_transaction_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sha_daemon.migrations._WAIT_SECONDS", 1)
    with (
        machine.held(ANY_JOB),
        machine.hub() as hub,
        pytest.raises(RowLocked, match="cannot apply 20251010_telemetry_fields: another program has kept its table"),
    ):
        hub.migrate()
    with machine.hub() as hub:
        assert hub.migrate()[ZERO_REPAIRED] == 1


@contextmanager
def granted(machine: Machine, rights: str) -> Iterator[None]:
    """Whoever runs the tests has these rights on the hub's database, and no others on the server, within the block."""
    me, everything = f"'{machine.server.user}'@localhost", "ALL PRIVILEGES ON *.*"
    machine.sql("CREATE OR REPLACE USER boss@localhost IDENTIFIED BY ''")
    machine.sql(f"GRANT {everything} TO boss@localhost WITH GRANT OPTION")
    with machine.server.connect(user="boss") as connection, connection.cursor() as boss:
        boss.execute(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {me}")
        boss.execute(f"GRANT {rights} ON hub.* TO {me}")
        try:
            yield
        finally:
            boss.execute(f"GRANT {everything} TO {me} WITH GRANT OPTION")


ROWS = "SELECT, INSERT, UPDATE, DELETE"


@pytest.mark.parametrize(
    ("rights", "applied", "denied"),
    [
        ("USAGE", 0, "Access denied for user '{}'@'localhost' to database 'hub'"),
        (ROWS, 0, "CREATE command denied to user '{}'@'localhost' for table `hub`.`telemetry_migrations`"),
        (f"{ROWS}, CREATE", 1, "ALTER command denied to user '{}'@'localhost' for table `hub`.`backup_jobs`"),
        (f"{ROWS}, CREATE, ALTER", 1, "INDEX command denied to user '{}'@'localhost' for table `hub`.`backup_jobs`"),
    ],
)
def test_who_may_not_change_tables_reads_which_right_is_lacking_and_who_has_it(
    machine: Machine, rights: str, applied: int, denied: str
) -> None:
    with granted(machine, rights):
        code, out, err = machine.shactl("db", "migrate")
    assert (code, len(out.splitlines())) == (2, applied)
    assert denied.format(machine.server.user) in err
    assert "run `shactl db setup`, then `shactl db migrate`, as root" in err
    assert machine.shactl("db", "migrate")[0] == 0
