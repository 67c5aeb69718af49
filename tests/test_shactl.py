"""shactl as an operator uses it: what it prints, and its exit codes, on a real database and a real hub."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sha_daemon.config import DatabaseSettings, HubSettings, Listen
from sha_daemon.shactl import main
from telemetry_common.settings import shown
from tests.support.databases import OnMariaDB
from tests.support.hub import Client, running_hub
from tests.support.live_hub import LIVE_HUB, Hub

pytestmark = pytest.mark.integration

Shactl = Callable[..., tuple[int, str, str]]


def shactl_for(settings: HubSettings, directory: Path, capsys: pytest.CaptureFixture[str]) -> Shactl:
    """Run a command line; (exit code, standard output, standard error)."""
    config = directory / "hub.toml"
    config.write_text(shown(settings))

    def run(*words: str) -> tuple[int, str, str]:
        try:
            code = main(["--config", str(config), *words])
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def bare(empty_database: DatabaseSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shactl:
    """On a database without a table, and no hub."""
    return shactl_for(HubSettings(database=empty_database, listen=Listen("127.0.0.1:1")), tmp_path, capsys)


@pytest.fixture
def migrated(bare: Shactl) -> Shactl:
    assert bare("db", "migrate")[0] == 0
    return bare


@pytest.fixture
def appliance(bare: Shactl, empty_database: DatabaseSettings) -> Shactl:
    """On the live hub's tables, migrated."""
    hub = Hub(empty_database)
    hub.run(LIVE_HUB.read_text())
    hub.migrate()
    hub.link.close()
    return bare


def test_migrate_names_what_it_applied_and_counted(bare: Shactl) -> None:
    code, out, _ = bare("db", "migrate")
    assert code == 0
    assert "applied 20251010_telemetry_fields" in out
    assert "  finished jobs left at 0 bytes, repaired from their disks: 0" in out
    assert bare("db", "migrate") == (0, "nothing to do\n", "")


def test_status_says_no_before_and_yes_after(bare: Shactl) -> None:
    code, out, _ = bare("db", "status")
    assert code == 1
    assert "not applied: 20251001_base_tables" in out
    bare("db", "migrate")
    assert bare("db", "status") == (0, "database telemetry_test: up to date\n", "")


def test_status_sees_what_somebody_dropped(migrated: Shactl, empty_database: DatabaseSettings) -> None:
    hub = OnMariaDB(empty_database)
    hub.execute("ALTER TABLE backup_jobs DROP COLUMN current_phase")
    hub.close()
    assert migrated("db", "status")[:2] == (
        1,
        "missing: backup_jobs.current_phase\ndatabase telemetry_test: run `shactl db migrate`\n",
    )


def test_a_database_that_cannot_be_reached_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = HubSettings(database=DatabaseSettings(socket=str(tmp_path / "none.sock")))
    for words in (["db", "status"], ["db", "migrate"], ["db", "setup"], ["job", "create", "j", "--vm", "v"]):
        code, out, err = shactl_for(settings, tmp_path, capsys)(*words)
        assert (code, out) == (2, "")
        assert err.startswith("shactl: cannot reach MariaDB at ")


def test_a_database_that_does_not_exist_is_a_no(
    empty_database: DatabaseSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = HubSettings(database=DatabaseSettings(name="nowhere", socket=empty_database.socket))
    run = shactl_for(settings, tmp_path, capsys)
    assert run("db", "status")[0] == 1
    assert "nowhere" in run("db", "migrate")[2]


def test_setup_tells_what_it_made(
    empty_database: DatabaseSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = HubSettings(database=DatabaseSettings(name="made_by_setup", socket=empty_database.socket))
    run = shactl_for(settings, tmp_path, capsys)
    assert run("db", "setup", "--user", "sha-made")[1].splitlines()[:3] == [
        "database made_by_setup: made",
        "user sha-made: made, known by unix_socket",
        "granted to sha-made on made_by_setup: SELECT, INSERT, UPDATE, DELETE",
    ]
    assert "database made_by_setup: was there" in run("db", "setup", "--user", "sha-made")[1]
    hub = OnMariaDB(empty_database)
    hub.execute("DROP DATABASE made_by_setup")
    hub.execute("DROP USER 'sha-made'@localhost")
    hub.close()


def test_a_user_name_with_a_quote_in_it_is_refused(bare: Shactl) -> None:
    code, _, err = bare("db", "setup", "--user", "x'@'%")
    assert code == 2
    assert err.startswith("shactl: cannot use \"x'@'%\" as the name of a user")


def test_a_created_job_is_pending_with_its_disks(migrated: Shactl, empty_database: DatabaseSettings) -> None:
    words = ("--vm", "web 1", "--type", "incremental", "--disks", "2", "--total-bytes", "5")
    assert migrated("job", "create", "job-1", *words) == (0, "created job-1: pending, 2 disks\n", "")
    hub = OnMariaDB(empty_database)
    assert hub.rows("SELECT id, vm_name, backup_type, status, total_bytes FROM backup_jobs") == [
        ("job-1", "web 1", "incremental", "pending", 5)
    ]
    assert hub.rows("SELECT disk_index, status FROM backup_disks") == [(0, "pending"), (1, "pending")]
    hub.close()


def test_an_id_is_given_out_once(migrated: Shactl) -> None:
    migrated("job", "create", "job-1", "--vm", "web1")
    code, _, err = migrated("job", "create", "JOB-1", "--vm", "web1")
    assert (code, err) == (1, "shactl: cannot create JOB-1: there is a job job-1 already; choose another id\n")


def test_an_appliance_says_what_its_tables_demand(appliance: Shactl) -> None:
    code, _, err = appliance("job", "create", "job-1", "--vm", "web1")
    assert code == 1
    assert "demands vm_context_id, repository_id; give --vm-context, --repository" in err


ON_APPLIANCE = ("--vm", "web1", "--repository", "repo-1", "--vm-context", "repl-pgtest1")


def test_an_appliance_takes_a_job_with_what_it_demands(appliance: Shactl) -> None:
    assert appliance("job", "create", "job-1", *ON_APPLIANCE)[0] == 0


def test_an_appliance_takes_no_disk_without_a_context(appliance: Shactl) -> None:
    code, _, err = appliance("job", "create", "job-1", *ON_APPLIANCE, "--disks", "1")
    assert code == 1
    assert "backup_disks demands vm_backup_context_id; give --backup-context" in err


def test_nothing_of_a_job_remains_whose_disks_are_refused(appliance: Shactl, empty_database: DatabaseSettings) -> None:
    words = (*ON_APPLIANCE, "--disks", "1", "--backup-context", "no-such-context")
    code, _, err = appliance("job", "create", "job-1", *words)
    assert (code, err[:32]) == (1, "shactl: cannot store the row: Ca")
    hub = OnMariaDB(empty_database)
    assert hub.rows("SELECT id FROM backup_jobs WHERE id = 'job-1'") == []
    hub.close()


def test_an_option_of_the_appliance_is_refused_on_a_bare_hub(migrated: Shactl) -> None:
    code, _, err = migrated("job", "create", "job-1", "--vm", "web1", "--repository", "repo-1")
    assert (code, "leave out --repository" in err) == (1, True)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["job", "create", "x" * 65, "--vm", "v"],
        ["job", "create", "a\nb", "--vm", "v"],
        ["job", "create", "job-1"],
        ["job", "create", "job-1", "--vm", "v", "--disks", "-1"],
        ["job", "create", "job-1", "--vm", "v", "--total-bytes", "9" * 19],
        ["jobs", "--status", "lost"],
        ["jobs", "--limit", "0"],
        ["jobs", "--vm", ""],
        ["jobs", "--vm", "x" * 256],
        ["jobs", "--vm", "\udcff"],
    ],
)
def test_wrong_usage_is_exit_2(bare: Shactl, words: list[str]) -> None:
    assert bare(*words)[0] == 2


def test_help_tells_the_exit_codes(bare: Shactl) -> None:
    code, out, _ = bare("--help")
    assert (code, "exit codes:" in out) == (0, True)


def test_a_typo_in_the_configuration_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "hub.toml"
    config.write_text("[database]\nnmae = 'x'\n")
    assert main(["--config", str(config), "db", "status"]) == 2
    assert "nmae" in capsys.readouterr().err


def test_without_a_hub_jobs_is_exit_2(bare: Shactl) -> None:
    for words in (["jobs"], ["job", "show", "job-1"]):
        code, _, err = bare(*words)
        assert code == 2
        assert err.startswith("shactl: cannot reach the hub at 127.0.0.1:1: ")


class Live:
    """A running hub, and shactl beside it."""

    def __init__(self, run: Shactl, client: Client) -> None:
        self._run = run
        self._client = client

    async def shactl(self, *words: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(self._run, *words)

    async def report(self, job_id: str, **update: object) -> None:
        async with self._client.post(
            f"/api/v1/telemetry/backup/{job_id}", json={"status": "running"} | update
        ) as answer:
            assert answer.status == 204


@pytest.fixture
async def live(
    migrated_database: DatabaseSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Live]:
    settings = HubSettings(database=migrated_database)
    async with running_hub(settings) as (_, client):
        listen = Listen(f"127.0.0.1:{client.port}")
        run = shactl_for(HubSettings(database=migrated_database, listen=listen), tmp_path, capsys)
        yield Live(run, client)


async def test_jobs_shows_a_line_a_job(live: Live) -> None:
    assert await live.shactl("jobs") == (0, "no jobs\n", "")
    await live.shactl("job", "create", "job-1", "--vm", "web1")
    figures = {"bytes_transferred": 1 << 30, "total_bytes": 2 << 30, "progress_percent": 50, "eta_seconds": 75}
    await live.report("job-1", current_phase="transferring", transfer_speed_bps=1 << 20, **figures)
    heads, line = (await live.shactl("jobs"))[1].splitlines()
    assert heads.split() == ["JOB", "VM", "STATUS", "PHASE", "PROGRESS", "BYTES", "SPEED", "ETA", "HEARD"]
    assert "job-1  web1  running  transferring  [######------]  50.0 %  1.0 GiB of 2.0 GiB  1.0 MiB/s  1m15s" in line


async def test_jobs_can_be_chosen_by_status_and_number(live: Live) -> None:
    for n in range(5):
        await live.shactl("job", "create", f"job-{n}", "--vm", "web1")
    await live.report("job-3")
    assert [job["job_id"] for job in json.loads((await live.shactl("jobs", "--json", "--status", "running"))[1])] == [
        "job-3"
    ]
    assert len(json.loads((await live.shactl("jobs", "--json", "--limit", "2"))[1])) == 2


async def test_jobs_can_be_searched_by_machine(live: Live) -> None:
    for n, name in enumerate(["web 1", "Web&2", "db"]):
        await live.shactl("job", "create", f"job-{n}", "--vm", name)
    for text, ids in (("WEB", ["job-0", "job-1"]), ("b&2", ["job-1"]), ("%", [])):
        found = json.loads((await live.shactl("jobs", "--json", "--vm", text))[1])
        assert sorted(job["job_id"] for job in found) == ids


async def test_a_job_whose_producer_says_nothing_is_marked_idle(live: Live) -> None:
    await live.shactl("job", "create", "job-1", "--vm", "web1")
    await live.report("job-1", idle_seconds=90)
    assert " ago idle" in (await live.shactl("jobs"))[1]


async def test_a_job_is_shown_with_its_disks(live: Live) -> None:
    await live.shactl("job", "create", "job 1/ä", "--vm", "web1", "--disks", "2")
    code, out, _ = await live.shactl("job", "show", "job 1/ä")
    assert code == 0
    assert out.splitlines()[0] == "job       job 1/ä"
    assert "0     pending  [------------]   0.0 %  0 B    -" in out
    assert len(json.loads((await live.shactl("job", "show", "job 1/ä", "--json"))[1])["disks"]) == 2


async def test_a_job_that_does_not_exist_is_a_no(live: Live) -> None:
    assert await live.shactl("job", "show", "x") == (1, "", "shactl: cannot show x: the hub has no such job\n")


async def test_nothing_from_the_database_reaches_the_terminal_raw(live: Live) -> None:
    await live.shactl("job", "create", "job-1", "--vm", "\x1b[2Jweb\nforged")
    await live.report("job-1", current_phase="\x1b]0;title\x07", error={"message": "\x1b[31m\nforged"})
    for words in (["jobs"], ["job", "show", "job-1"], ["jobs", "--json"]):
        out = (await live.shactl(*words))[1]
        assert not {"\x1b", "\x07"} & set(out)
        assert not any(line.startswith("forged") for line in out.splitlines())


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (200, b'{"a": 1}'), (503, b"busy"), (503, b'{"detail": "x"}')]
)
async def test_whatever_else_answers_at_the_hubs_address_is_exit_2(
    status: int, body: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    application = web.Application()
    application.router.add_get("/{any:.*}", answer)
    async with TestServer(application) as server:
        settings = HubSettings(listen=Listen(f"127.0.0.1:{server.port}"))
        run = shactl_for(settings, tmp_path, capsys)
        for words in (["jobs"], ["job", "show", "x"]):
            code, _, err = await asyncio.to_thread(run, *words)
            assert (code, err.startswith("shactl: cannot ")) == (2, True)
