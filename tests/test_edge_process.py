"""Tokens and certificate of a hub in service, as its operator changes them."""

import http.client
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from sha_daemon.config import Access, DatabaseSettings, HubSettings, Tls
from sha_daemon.main import PROGRAM
from sha_daemon.tokens import line
from sha_daemon.validity import validity
from telemetry_common import daemon
from telemetry_common.settings import shown
from testbed.installation import CommandFailed, command, hub_settings
from testbed.processes import Daemon, clean_environment, installed
from tests.support.certificates import Pair, authority, dated, server

pytestmark = pytest.mark.integration


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(line("old", "read", "sbt_old"))
    return path


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return server(tmp_path, authority(tmp_path))


@pytest.fixture
def settings(tmp_path: Path, tokens_file: Path, pair: Pair) -> HubSettings:
    """Without a database: that stops neither tokens nor TLS."""
    return structs.replace(
        hub_settings(DatabaseSettings(socket=str(tmp_path / "none.sock"))),
        access=Access(tokens_file=str(tokens_file)),
        tls=Tls(certificate=str(pair.certificate), key=str(pair.key)),
    )


@pytest.fixture
def hub(tmp_path: Path, settings: HubSettings) -> Iterator[Daemon]:
    with Daemon("sha-daemon", tmp_path, settings) as running:
        yield running


class Reader:
    """A connection that stays open."""

    def __init__(self, settings: HubSettings, directory: Path) -> None:
        trusting = ssl.create_default_context(cafile=str(directory / "ca.crt"))
        self._connection = http.client.HTTPSConnection(settings.listen.address, timeout=10, context=trusting)

    def status_with(self, token: str) -> int:
        self._connection.request("GET", "/api/v1/telemetry/nothing", headers={"Authorization": f"Bearer {token}"})
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def figures(self, token: str) -> str:
        self._connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
        return self._connection.getresponse().read().decode()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def reader(hub: Daemon, settings: HubSettings, tmp_path: Path) -> Iterator[Reader]:
    opened = Reader(settings, tmp_path)
    yield opened
    opened.close()


def test_new_tokens_are_taken_over_and_broken_ones_are_not(hub: Daemon, reader: Reader, tokens_file: Path) -> None:
    assert reader.status_with("sbt_old") == 404
    tokens_file.write_text(line("new", "read", "sbt_new"))
    hub.reload()
    assert (reader.status_with("sbt_old"), reader.status_with("sbt_new")) == (401, 404)
    assert 'reloaded what=tokens now="1 known"' in hub.log()
    tokens_file.write_text("oops")
    hub.reload()
    assert reader.status_with("sbt_new") == 404
    assert (
        f'reload refused; what runs goes on what=tokens reason="cannot use {tokens_file} (access.tokens_file): line 1'
        in hub.log()
    )


def test_a_renewed_certificate_is_served_to_who_comes_next(
    hub: Daemon, reader: Reader, settings: HubSettings, tmp_path: Path, pair: Pair
) -> None:
    assert reader.status_with("sbt_old") == 404
    renewed = server(tmp_path, Pair(tmp_path / "ca.crt", tmp_path / "ca.key"), "renewed")
    renewed.certificate.rename(pair.certificate)
    hub.reload()
    assert "reload refused; what runs goes on what=certificate" in hub.log()
    renewed.key.rename(pair.key)
    hub.reload()
    host, port = settings.listen.address.split(":")
    assert ssl.get_server_certificate((host, int(port))) == pair.certificate.read_text()
    ends = validity(pair.certificate.read_text()).ends
    (told,) = re.findall(r"^sha_certificate_expires_timestamp_seconds (.+)$", reader.figures("sbt_old"), re.M)
    assert float(told) == ends
    assert reader.status_with("sbt_old") == 404


def test_other_files_than_before_need_a_restart(hub: Daemon, tokens_file: Path, tmp_path: Path) -> None:
    (tmp_path / "others").write_text(tokens_file.read_text())
    hub.config_file.write_text(hub.config_file.read_text().replace(str(tokens_file), str(tmp_path / "others")))
    hub.reload()
    assert "changed settings need a restart keys=access.tokens_file" in hub.log()


def test_a_check_looks_at_the_files_that_a_start_would_need(tmp_path: Path, settings: HubSettings) -> None:
    config = tmp_path / "config.toml"
    config.write_text(shown(settings))
    check = ("sha-daemon", "--config", str(config), "--check")
    assert "can be used" in command(*check)
    for file, key in ((settings.tls.key, "tls.key"), (settings.access.tokens_file, "access.tokens_file")):
        Path(file).unlink()
        with pytest.raises(CommandFailed, match=f"cannot read {re.escape(file)} .{key}.: No such file"):
            command(*check)


def test_a_check_says_what_an_operator_may_not_have_meant(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[listen]\naddress = '0.0.0.0:8082'\nmax_connections = 100\n")
    checked = subprocess.run(
        [installed("sha-daemon"), "--config", str(config), "--check"],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
    )
    assert [line.partition(": warning: ")[2].partition(":")[0] for line in checked.stderr.splitlines()] == [
        "whoever reaches the address may report and read",
        "what is reported and read crosses the network in clear",
        "listen.max_streams is more than half of the connections taken=50",
    ]


def test_an_expired_certificate_is_refused_by_a_check_and_served_by_a_start(
    tmp_path: Path, settings: HubSettings, pair: Pair
) -> None:
    ended = dated(tmp_path, Pair(tmp_path / "ca.crt", tmp_path / "ca.key"), "ended", days=-1)
    ended.certificate.rename(pair.certificate)
    ended.key.rename(pair.key)
    with Daemon("sha-daemon", tmp_path, settings) as hub:
        assert f'nobody trusts it certificate={pair.certificate} reason="it expired on ' in hub.log()
        with pytest.raises(CommandFailed, match=f"cannot use {re.escape(str(pair.certificate))}: it expired on "):
            command("sha-daemon", "--config", str(hub.config_file), "--check")
        renewed = server(tmp_path, Pair(tmp_path / "ca.crt", tmp_path / "ca.key"), "renewed")
        renewed.certificate.rename(pair.certificate)
        renewed.key.rename(pair.key)
        hub.reload()
        host, port = settings.listen.address.split(":")
        assert ssl.get_server_certificate((host, int(port))) == pair.certificate.read_text()


def test_a_check_without_a_file_says_that_defaults_are_used(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    daemon.check(PROGRAM, tmp_path / "none.toml", HubSettings())
    assert capsys.readouterr().out.endswith("none.toml (no such file; defaults are used) can be used\n")
