"""A database on other machines: TCP, a password, TLS, and several servers. Real servers on loopback."""

import itertools
import logging
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from sha_daemon.config import DatabaseSettings, HubSettings
from sha_daemon.database import DatabaseAway, Session
from sha_daemon.mariadb import MariaDB
from sha_daemon.mariadb_access import MariaAccess
from sha_daemon.mariadb_errors import NotAllowed
from sha_daemon.shactl import main as shactl
from telemetry_common.settings import SettingsError, shown
from testbed.installation import hub_settings
from testbed.processes import clean_environment, free_port, installed
from tests.support.certificates import Pair, authority
from tests.support.hub import running_hub
from tests.support.remote_server import DATABASE, PASSWORD, USER, RemoteServer, remote_server
from tests.support.stage import RealHub

pytestmark = pytest.mark.integration


ADD_JOB = "REPLACE INTO backup_jobs (id, vm_name, backup_type, status) VALUES ('j', 'vm', 'full', 'running')"
URL = "/api/v1/telemetry/backup/j"


def running_jobs(session: Session) -> int:
    return session.counts()["running"]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, ca: Pair) -> Iterator[RemoteServer]:
    with remote_server(tmp_path_factory.mktemp("db") / "1", ca) as server:
        server.provide()
        yield server


@pytest.fixture
def settings(one: RemoteServer, ca: Pair, tmp_path: Path) -> DatabaseSettings:
    return settings_for(tmp_path, ca, one)


def settings_for(directory: Path, ca: Pair, *servers: RemoteServer) -> DatabaseSettings:
    password = directory / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    hosts = tuple(server.address for server in servers)
    return DatabaseSettings(
        name=DATABASE, user=USER, hosts=hosts, password_file=str(password), ca_file=str(ca.certificate), socket="/none"
    )


async def said_by(settings: DatabaseSettings, access: MariaAccess | None = None) -> int:
    database = MariaDB(settings, access=access)
    try:
        return await database.run(running_jobs)
    finally:
        await database.close()


async def test_it_is_reached_over_tls_by_a_user_with_a_password(settings: DatabaseSettings) -> None:
    assert await said_by(settings) == 0


async def test_a_server_of_another_ca_is_not_trusted(settings: DatabaseSettings, tmp_path: Path) -> None:
    stranger = tmp_path / "other"
    stranger.mkdir()
    with pytest.raises(DatabaseAway, match="certificate verify failed"):
        await said_by(structs.replace(settings, ca_file=str(authority(stranger).certificate)))


async def test_a_server_without_the_name_it_is_called_by_is_not_trusted(
    settings: DatabaseSettings, one: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `localhost` it is known, and by its address; by no other name."""
    port = one.address.rpartition(":")[2]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("127.0.0.1", int(port)))])
    with pytest.raises(DatabaseAway, match="Hostname mismatch"):
        await said_by(structs.replace(settings, hosts=(f"db.example:{port}",)))


async def test_a_server_without_tls_is_refused_before_anything_is_said(ca: Pair, tmp_path: Path) -> None:
    with remote_server(tmp_path / "2", None) as plain:
        plain.provide(with_tls=False)
        settings = settings_for(tmp_path, ca, plain)
        with pytest.raises(DatabaseAway, match="SSL is required"):
            await said_by(settings)
        assert await said_by(structs.replace(settings, tls=False, ca_file="")) == 0


async def test_a_wrong_password_is_told_and_not_shown(settings: DatabaseSettings) -> None:
    Path(settings.password_file).write_text("wrong\n")
    with pytest.raises(NotAllowed, match="Access denied") as refused:
        await said_by(settings)
    assert "wrong" not in str(refused.value)


async def test_another_password_counts_from_the_reload_on(settings: DatabaseSettings) -> None:
    path = Path(settings.password_file)
    path.write_text("wrong\n")
    access = MariaAccess(settings)
    with pytest.raises(NotAllowed):
        await said_by(settings, access)
    path.write_text(PASSWORD + "\n")
    assert {name: again() for name, again in access.reloadable.items()} == {
        "database password": "another one",
        "CAs of the database": settings.ca_file,
    }
    assert await said_by(settings, access) == 0


@pytest.mark.parametrize(
    ("text", "mode", "complaint"),
    [
        ("", 0o600, "expected one line"),
        ("\n", 0o600, "expected one line"),
        ("a\nb\n", 0o600, "expected one line"),
        (PASSWORD, 0o640, "it is open to its group; expected mode 0600 and the hub's user (sha) as its owner"),
    ],
)
def test_a_password_that_cannot_be_one_stops_the_start_and_is_not_shown(
    settings: DatabaseSettings, text: str, mode: int, complaint: str
) -> None:
    Path(settings.password_file).write_text(text)
    Path(settings.password_file).chmod(mode)
    with pytest.raises(SettingsError, match=re.escape(f"cannot use {settings.password_file}: {complaint}")) as refused:
        MariaAccess(settings)
    assert PASSWORD not in str(refused.value)


async def test_where_the_first_is_down_the_next_one_serves_and_stays(
    settings: DatabaseSettings, one: RemoteServer, caplog: pytest.LogCaptureFixture
) -> None:
    dead = f"localhost:{free_port()}"
    access = MariaAccess(structs.replace(settings, hosts=(dead, one.address)))
    with caplog.at_level(logging.WARNING):
        assert await said_by(access.settings, access) == 0
        assert await said_by(access.settings, access) == 0
    assert caplog.messages == [f"another database server is in use server={one.address}"]
    assert str(access.servers.in_order()[0]) == one.address


async def test_where_none_serves_each_is_named_with_its_reason(settings: DatabaseSettings) -> None:
    dead = [f"localhost:{free_port()}" for _ in range(2)]
    with pytest.raises(DatabaseAway) as away:
        await said_by(structs.replace(settings, hosts=tuple(dead)))
    reasons = "; ".join(f"cannot reach MariaDB at {address}: Connection refused" for address in dead)
    assert str(away.value) == f"cannot use any of the database's servers: {reasons}"


async def test_one_that_answers_but_cannot_write_is_passed_over(
    settings: DatabaseSettings, one: RemoteServer, ca: Pair, tmp_path: Path
) -> None:
    """As a node that has become read only, or a cluster's that has lost its majority."""
    with remote_server(tmp_path / "2", ca) as two:
        two.provide()
        two.sql(ADD_JOB)
        access = MariaAccess(structs.replace(settings, hosts=(one.address, two.address)))
        database = MariaDB(access.settings, access=access)
        one.sql("SET GLOBAL read_only = ON")
        try:
            with pytest.raises(DatabaseAway, match="read-only"):
                await database.run(lambda session: session.advance_listening(1))
            assert await database.run(running_jobs) == 1
        finally:
            one.sql("SET GLOBAL read_only = OFF")
            await database.close()


async def test_updates_go_on_when_a_server_dies_under_the_hub(
    settings: DatabaseSettings, one: RemoteServer, ca: Pair, tmp_path: Path
) -> None:
    with remote_server(tmp_path / "2", ca) as two:
        two.provide()
        for server in (one, two):
            server.sql(ADD_JOB)
        hosts = structs.replace(settings, hosts=(two.address, one.address))
        async with running_hub(HubSettings(database=hosts)) as (_, client):
            assert (await client.post(URL, json={"status": "running", "seq": 1})).status == 204
            assert two.sql("SELECT telemetry_seq FROM backup_jobs") == ((1,),)
            two.server.kill()
            for seq in itertools.count(2):
                if (await client.post(URL, json={"status": "running", "seq": seq})).status == 204:
                    break
            assert one.sql("SELECT telemetry_seq FROM backup_jobs") == ((seq,),)
            assert seq < 5


def test_setup_prints_what_the_administrator_there_has_to_do(
    settings: DatabaseSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "hub.toml"
    config.write_text(shown(HubSettings(database=settings)))
    assert shactl(["--config", str(config), "db", "setup"]) == 0
    said = capsys.readouterr().out
    assert "CREATE USER IF NOT EXISTS 'sha'@'%' IDENTIFIED BY 'PASSWORD' REQUIRE SSL;" in said
    assert "GRANT SELECT, INSERT, UPDATE, DELETE ON `hub`.* TO 'sha'@'%';" in said
    assert PASSWORD not in said
    assert shactl(["--config", str(config), "db", "status"]) == 0


@pytest.mark.parametrize(("private", "asked_for"), [("yes", True), ("no", False)])
def test_a_check_asks_for_the_drop_in_where_the_unit_has_no_network(
    settings: DatabaseSettings, tmp_path: Path, private: str, asked_for: bool
) -> None:
    """What systemd says of the unit is said by a program in its place: there is no unit here."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text(f"#!/bin/sh\necho {private}\n")
    (programs / "systemctl").chmod(stat.S_IRWXU)
    config = tmp_path / "hub.toml"
    config.write_text(shown(hub_settings(settings)))
    environment = clean_environment({"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"})
    done = subprocess.run(
        [installed("sha-daemon"), "--config", str(config), "--check"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ("install the drop-in for a remote database" in done.stderr) == asked_for


def test_the_hub_as_a_process_serves_from_there(settings: DatabaseSettings, one: RemoteServer, tmp_path: Path) -> None:
    with RealHub(tmp_path, hub_settings(settings), one.server) as hub:
        assert "database unreachable" not in hub.status
        hub.create_job("from-afar")
        assert one.sql("SELECT status FROM backup_jobs WHERE id = 'from-afar'") == (("pending",),)
        one.sql("DELETE FROM backup_jobs WHERE id = 'from-afar'")
