"""The unit files beside the code: what one says of the other must be so."""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sbc_daemon import config as sbc_config
from sbc_daemon.attachments import MAX_PROCESSES
from sbc_daemon.config import SidecarSettings
from sha_daemon import config as sha_config
from sha_daemon.config import HubSettings
from sha_daemon.serving import BACKLOG
from telemetry_common.lifecycle import watchdog_interval
from telemetry_common.settings import load
from testbed.installation import hub_settings, sidecar_settings
from testbed.processes import Daemon
from tests.support.units import DIRECTORY, NAMES, unit, value

HUB = load(HubSettings, Path("/nonexistent/config.toml"), sha_config.PREFIX, {})
SIDECAR = load(SidecarSettings, Path("/nonexistent/config.toml"), sbc_config.PREFIX, {})
DAEMONS = ["sha-daemon.service", "sbc-daemon.service"]
DROP_INS = sorted(path for path in (DIRECTORY / "drop-ins").iterdir() if path.is_dir())
SERVICES = [name for name in NAMES if name.endswith(".service")]


@pytest.mark.parametrize("drop_ins", [None, *DROP_INS], ids=lambda path: path and path.name)
def test_systemd_finds_no_fault_in_any_unit(tmp_path: Path, drop_ins: Path | None) -> None:
    """Beside programs that exist: what the units start is not installed here."""
    for name in NAMES:
        text = (DIRECTORY / name).read_text("utf-8")
        (tmp_path / name).write_text(re.sub(r"^(Exec\w+)=/\S+", r"\1=/bin/true", text, flags=re.M))
    for path in drop_ins.glob("*.conf") if drop_ins else ():
        directory = tmp_path / f"{path.stem}.d"
        directory.mkdir()
        (directory / "drop-in.conf").write_text(path.read_text("utf-8"))
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in NAMES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_hub_that_is_opened_to_the_network_has_one_address_and_is_closed_to_strangers() -> None:
    network = DIRECTORY / "drop-ins" / "network"
    opened = load(HubSettings, network / "network.toml", sha_config.PREFIX, {}, must_exist=True)
    assert unit("drop-ins/network/sha-daemon.socket.conf")["Socket", "ListenStream"] == ["", opened.listen.address]
    assert opened.access.tokens_file
    loaded = unit("drop-ins/network/sha-daemon.service.conf")["Service", "LoadCredential"]
    assert loaded == [f"tls.crt:{opened.tls.certificate}", f"tls.key:{opened.tls.key}"]


def test_a_key_that_systemd_hands_over_is_found_where_it_lies() -> None:
    given = value("drop-ins/network/sha-daemon.service.conf", "Service", "Environment")
    environ = dict(item.split("=") for item in given.replace("%d", "/run/credentials/hub").split())
    tls = load(HubSettings, Path("/nonexistent/config.toml"), sha_config.PREFIX, environ).tls
    assert tls == sha_config.Tls("/run/credentials/hub/tls.crt", "/run/credentials/hub/tls.key")


@pytest.mark.parametrize("name", DAEMONS)
def test_a_reload_sends_the_signal_that_reloads(name: str) -> None:
    assert value(name, "Service", "ExecReload") == "/bin/kill -HUP $MAINPID"


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_unit_still_may_is_what_the_runbook_gives_a_reason_for(name: str) -> None:
    """The figures depend on the version of systemd; what is left, less so."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(DIRECTORY / name)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    left = {line.split()[1]: float(line.split()[-1]) for line in said.splitlines() if line.startswith("✗")}
    page = (
        (DIRECTORY.parent / "docs" / "operations.md").read_text("utf-8").split("## How far the services are shut in")[1]
    )
    rows = re.findall(r"^\| (\S+) \| `(\S+)` \| ([\d.]+) \| .", page, re.M)
    program = name.removesuffix(".service")
    assert left == {what.replace("\\|", "|"): float(points) for of, what, points in rows if of in ("all", program)}
    found = re.search(r"Overall exposure level for \S+: (\S+)", said)
    told = re.search(rf"([\d.]+)(?: in all)? for `{name}`", page)
    assert found is not None
    assert told is not None
    assert found[1] == told[1]


@pytest.mark.parametrize("name", SERVICES)
def test_every_program_that_a_unit_starts_is_one_of_ours(name: str) -> None:
    pyproject = (DIRECTORY.parent / "pyproject.toml").read_text("utf-8")
    for started in unit(name)["Service", "ExecStart"]:
        program = started.split()[0].removeprefix("/usr/bin/")
        assert f'\n{program} = "' in pyproject


@pytest.mark.parametrize("name", DAEMONS)
def test_readiness_and_pings_are_waited_for(name: str) -> None:
    assert value(name, "Service", "Type") == "notify"
    assert value(name, "Service", "NotifyAccess") == "main"
    assert value(name, "Service", "Restart") == "always"


def test_both_daemons_ping_well_within_watchdog_sec(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DAEMONS:
        seconds = float(value(name, "Service", "WatchdogSec"))
        monkeypatch.setenv("WATCHDOG_USEC", str(int(seconds * 1e6)))
        assert watchdog_interval() == seconds / 3


@pytest.mark.integration
def test_the_daemons_ping_when_systemd_asks_for_it(tmp_path: Path) -> None:
    """The hub here has no database: that stops no ping, for a restart would not cure it."""
    hub = hub_settings(sha_config.DatabaseSettings(socket=str(tmp_path / "none.sock")))
    sidecar = sidecar_settings(tmp_path, "http://127.0.0.1:9")
    for program, settings in (("sha-daemon", hub), ("sbc-daemon", sidecar)):
        with Daemon(program, tmp_path, settings, {"WATCHDOG_USEC": "300000"}) as daemon:
            assert daemon.manager.wait_for_pings(3, 10), f"{program} does not ping"


@pytest.mark.parametrize(
    ("name", "seconds"), [("sha-daemon.service", HUB.service), ("sbc-daemon.service", SIDECAR.service)]
)
def test_systemd_waits_longer_than_a_daemon_takes_to_stop(
    name: str, seconds: sha_config.Service | sbc_config.Service
) -> None:
    assert float(value(name, "Service", "TimeoutStopSec")) >= seconds.stop_seconds + 10


@pytest.mark.parametrize(
    ("socket_unit", "configured"),
    [
        ("sha-daemon.socket", HUB.listen.address),
        ("sbc-daemon.socket", SIDECAR.socket.path),
        ("sbc-daemon-control.socket", SIDECAR.socket.control),
    ],
)
def test_a_socket_is_where_the_configuration_says(socket_unit: str, configured: str) -> None:
    assert value(socket_unit, "Socket", "ListenStream") == configured


@pytest.mark.integration
def test_the_sidecars_sockets_are_told_apart_by_the_names_the_code_knows(tmp_path: Path) -> None:
    """Started as its units start it, it answers on both of the sockets that it was handed."""
    config = sidecar_settings(tmp_path, "http://127.0.0.1:9")
    with listening(config.socket.path) as progress, listening(config.socket.control) as control:
        handed = {
            value("sbc-daemon.socket", "Socket", "FileDescriptorName"): progress,
            value("sbc-daemon-control.socket", "Socket", "FileDescriptorName"): control,
        }
        with Daemon("sbc-daemon", tmp_path, config, sockets=handed):
            assert b'"hello"' in said(config.socket.path, b'{"hello":1}\n')
            assert b"200 OK" in said(config.socket.control, b"GET /status HTTP/1.0\r\n\r\n")


@pytest.mark.integration
def test_the_metrics_socket_is_one_that_the_sidecar_serves_and_starts_only_when_enabled(tmp_path: Path) -> None:
    name = "sbc-daemon-metrics.socket"
    assert value(name, "Socket", "Service") == "sbc-daemon.service"
    assert name not in str(unit("sbc-daemon.service"))
    with listening(str(tmp_path / "metrics.sock")) as given:
        handed = {value(name, "Socket", "FileDescriptorName"): given}
        with Daemon("sbc-daemon", tmp_path, sidecar_settings(tmp_path, "http://127.0.0.1:9"), sockets=handed):
            head = said(str(tmp_path / "metrics.sock"), b"GET /metrics HTTP/1.0\r\n\r\n")
    assert b"200 OK" in head
    assert (tmp_path / "metrics.sock").exists()


def test_the_sidecars_service_has_both_sockets() -> None:
    assert value("sbc-daemon-control.socket", "Socket", "Service") == "sbc-daemon.service"
    listed = value("sbc-daemon.service", "Service", "Sockets").split()
    assert sorted(listed) == ["sbc-daemon-control.socket", "sbc-daemon.socket"]


@contextmanager
def listening(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        yield sock


def said(path: str, question: bytes) -> bytes:
    """What comes back first."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(path)
        sock.sendall(question)
        return sock.recv(65536)


@pytest.mark.parametrize("socket_unit", ["sbc-daemon.socket", "sbc-daemon-control.socket"])
def test_the_group_sbc_and_nobody_else_may_open_the_sidecars_sockets(socket_unit: str) -> None:
    assert value(socket_unit, "Socket", "SocketMode") == "0660"
    assert value(socket_unit, "Socket", "SocketGroup") == "sbc"


def test_the_sidecar_keeps_its_outbox_where_systemd_made_room_and_nobody_else_reads_it() -> None:
    assert f"/var/lib/{value('sbc-daemon.service', 'Service', 'StateDirectory')}" == SIDECAR.outbox.directory
    assert value("sbc-daemon.service", "Service", "StateDirectoryMode") == "0700"


def test_as_many_descriptors_outlive_the_sidecar_as_it_holds_and_it_may_hold_more() -> None:
    held = SIDECAR.socket.max_connections + MAX_PROCESSES
    assert int(value("sbc-daemon.service", "Service", "FileDescriptorStoreMax")) == held
    assert SIDECAR.service.descriptor_store == held
    assert int(value("sbc-daemon.service", "Service", "LimitNOFILE")) >= 2 * held


def test_no_restart_of_the_sidecar_removes_its_sockets() -> None:
    assert ("Service", "RuntimeDirectory") not in unit("sbc-daemon.service")


def test_the_hubs_system_user_is_the_one_that_mariadb_knows() -> None:
    assert value("sha-daemon.service", "Service", "User") == HUB.database.user


@pytest.mark.parametrize("name", DAEMONS)
def test_the_users_of_the_units_are_made_by_sysusers(name: str) -> None:
    made = (DIRECTORY / "sysusers.d" / name.replace(".service", ".conf")).read_text("utf-8")
    assert f"\nu {value(name, 'Service', 'User')} - " in made


def test_as_many_may_wait_to_be_accepted_as_the_hub_allows_without_systemd() -> None:
    assert int(value("sha-daemon.socket", "Socket", "Backlog")) == BACKLOG
