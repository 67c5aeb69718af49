"""apt install, and it runs: on a machine with MariaDB, on one without, and on a hub that has been in service."""

import json
import re

import pytest

from tests.appliance import roots, runbook
from tests.appliance.debs import Debs
from tests.appliance.lab import Lab
from tests.appliance.machines import DATABASE, SOCKET, Client, Hub
from tests.appliance.measured import Measured

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def hub(lab: Lab, debian: str, current: Debs, measured: Measured) -> Hub:
    hub = Hub(lab.boot("hub", roots.root(debian)))
    measured("install of the hub", hub.node.install(current.hub), "s")
    measured("first answer of the hub, behind that", hub.node.wait(HEALTHY), "s")
    return hub


@pytest.fixture(scope="module")
def client(lab: Lab, debian: str, current: Debs, measured: Measured) -> Client:
    client = Client(lab.boot("client", roots.root(debian), mask=("mariadb.service",)))
    measured("install of the sidecar", client.node.install(current.sidecar), "s")
    return client


HEALTHY = "curl -sf http://127.0.0.1:8082/api/v1/health"


def test_packages_are_small(current: Debs, hub: Hub, client: Client, measured: Measured) -> None:
    for name, deb, machine in (("hub", current.hub, hub), ("sidecar", current.sidecar, client)):
        measured(f"size of the {name}'s package", deb.stat().st_size / 1e6, "MB")
        installed = int(machine.node.sh(f"du -sk /usr/lib/{machine.service} | cut -f1"))
        measured(f"size of the {name} installed", installed / 1e3, "MB")
        assert deb.stat().st_size < 3e6


def test_a_hub_runs_as_soon_as_it_is_installed(hub: Hub) -> None:
    assert hub.is_up()
    assert hub.node.run("systemctl", "is-enabled", "sha-daemon.service", "sha-daemon.socket") == "enabled\nenabled"
    assert hub.node.run("systemctl", "is-system-running") == "running"


def test_the_database_was_made_without_any_password(hub: Hub) -> None:
    made = hub.node.sh(
        f"mariadb -N -e \"SHOW CREATE USER 'sha'@'localhost'\" && mariadb -N -e 'SHOW TABLES' {DATABASE}"
    )
    assert "unix_socket" in made
    assert "backup_jobs" in made
    assert hub.node.run("shactl", "db", "status")
    assert 'password_file = ""' in hub.node.run("sha-daemon", "--show-config")
    hub.node.fails("mariadb -u sha -e 'select 1'")


def test_jobs_are_listed(hub: Hub) -> None:
    assert hub.node.run("shactl", "jobs") == "no jobs"
    hub.create_job("first-1", disks=1)
    assert "first-1" in hub.node.run("shactl", "jobs")


def test_the_status_of_the_hub_reads_well(hub: Hub) -> None:
    said = hub.node.run("systemctl", "status", "--no-pager", "sha-daemon")
    assert "Active: active (running)" in said
    assert "database ok" in said
    assert 'Status: "0 jobs running' in said


def test_a_user_in_the_group_reports_with_sbc_report_and_with_netcat(client: Client) -> None:
    client.let_report()
    line = '{"job_id":"first-1","status":"running","bytes_transferred":5,"ack":1}'
    assert json.loads(client.report(line)) == {"ack": 1, "ok": True}
    said = client.node.try_run("sbc-report", "progress", "--job", "first-1", "7", user="backup")
    assert (said.returncode, said.stderr) == (0, "")
    client.node.wait("sbcctl status --json | grep -q '\"bytes_transferred\": 7'")


def test_a_user_outside_the_group_is_refused(client: Client) -> None:
    refused = client.node.fails(f"echo '{{}}' | nc -U -q0 {SOCKET}", user="nobody")
    assert "Permission denied" in refused
    said = client.node.try_run("sbc-report", "done", "--job", "first-1", user="nobody")
    assert said.returncode == 0
    assert "ermission denied" in said.stderr


def test_the_figures_are_had_from_the_socket_for_them_as_the_runbook_says(client: Client) -> None:
    """Last of all that is done with this client: the stop closes what is connected to it."""
    assert client.node.fails("systemctl is-enabled sbc-daemon-metrics.socket").strip() == "disabled"
    said = client.node.sh(runbook.block("The client's figures"))
    assert re.search(r"^sbc_messages_accepted_total [1-9]", said, re.M)


def test_a_hub_without_a_database_says_so_and_heals_when_there_is_one(
    lab: Lab, debian: str, current: Debs, measured: Measured
) -> None:
    hub = Hub(lab.boot("early", roots.root(debian), mask=("mariadb.service",)))
    # its status line is told a new figure three times within this
    hub.node.write("/etc/systemd/system/sha-daemon.service.d/quick.conf", "[Service]\nWatchdogSec=9\n")
    hub.node.install(current.hub)
    assert hub.is_up()
    assert "database unreachable since" in hub.status_text()
    assert hub.node.sh("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8082/api/v1/health") == "503"
    hub.node.sh("systemctl unmask --quiet mariadb && systemctl start mariadb")
    measured("a hub without MariaDB serves, behind MariaDB's start", hub.node.wait(HEALTHY), "s")
    assert "database usable again" in hub.journal()
    hub.node.wait("systemctl show sha-daemon --property=StatusText | grep -q 'database ok'")
    assert hub.node.run("shactl", "jobs") == "no jobs"


OLD_COLUMNS = (
    "id, vm_context_id, vm_name, repository_id, backup_type, status, repository_path, created_at, completed_at"
)


def test_the_tables_of_a_hub_in_service_are_migrated_and_nothing_is_lost(lab: Lab, debian: str, current: Debs) -> None:
    hub = Hub(lab.boot("served", roots.root(debian)))
    hub.load_live_tables()
    old = (
        f"SELECT {OLD_COLUMNS} FROM backup_jobs ORDER BY id; SELECT COUNT(*), SUM(bytes_transferred) FROM backup_disks;"
    )
    before = hub.sql(old)
    hub.node.install(current.hub)
    hub.node.wait(HEALTHY)
    assert hub.sql(old) == before
    repaired = hub.job("finished-zero")
    assert (repaired["bytes_transferred"], repaired["progress_percent"]) == (45678901234, 100.0)
    assert "repaired" in hub.node.journal("sha-db")
    assert hub.job("running-1")["never_heard"]
