"""Client and hub over a network, with TLS and a token: both as real processes, from a producer's line to MariaDB."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from sbc_daemon.config import Hub, SidecarSettings
from sha_daemon.config import Access, DatabaseSettings, HubSettings, Tls
from sha_daemon.tokens import line
from testbed.installation import hub_settings, sidecar_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import clean_environment, installed
from tests.support.certificates import Pair, authority, server
from tests.support.stage import RealHub, RealSidecar, eventually

pytestmark = pytest.mark.integration
TOKEN = "sbt_" + "right-one" * 4
WRONG = "sbt_" + "wrong-one" * 4
JOB = "backup-1"


@pytest.fixture
def ca(tmp_path: Path) -> Pair:
    return authority(tmp_path)


@pytest.fixture
def closed_hub(
    tmp_path: Path, ca: Pair, migrated_database: DatabaseSettings, mariadb_server: PrivateMariaDB
) -> Iterator[RealHub]:
    tokens = tmp_path / "tokens"
    tokens.write_text(line("client", "report", TOKEN))
    pair = server(tmp_path, ca)
    settings: HubSettings = structs.replace(
        hub_settings(migrated_database),
        access=Access(tokens_file=str(tokens)),
        tls=Tls(certificate=str(pair.certificate), key=str(pair.key)),
    )
    with RealHub(tmp_path, settings, mariadb_server) as running:
        running.create_job(JOB)
        yield running


def client_of(hub: RealHub, directory: Path, ca: Path, token: str) -> SidecarSettings:
    token_file = directory / "hub.token"
    token_file.touch(0o600)
    token_file.write_text(token)
    url = hub.url.replace("http:", "https:")
    settings = sidecar_settings(directory, url)
    return structs.replace(settings, hub=Hub(url=url, token_file=str(token_file), ca_file=str(ca)))


def status(sidecar: RealSidecar, *words: str) -> str:
    command = [installed("sbcctl"), "status", *words, "--config", str(sidecar.config_file)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=20, env=clean_environment()
    ).stdout


def test_a_wrong_token_is_told_what_to_do_about_and_the_right_one_delivers_what_waited(
    tmp_path: Path, ca: Pair, closed_hub: RealHub
) -> None:
    with RealSidecar(tmp_path, client_of(closed_hub, tmp_path, ca.certificate, WRONG)) as sidecar:
        assert sidecar.ask(job_id=JOB, status="completed", bytes_transferred=9)["ok"]
        eventually(lambda: "1 job held" in status(sidecar))
        held = next(line for line in status(sidecar).splitlines() if line.startswith("held"))
        assert "401 the hub does not know this token" in held
        assert (
            "look after hub.token_file on this client, then reload sbc-daemon (where the key is new: restart it)"
            in held
        )
        (tmp_path / "hub.token").write_text(TOKEN)
        sidecar.reload()
        eventually(lambda: closed_hub.rows(JOB)[0].status == "completed")
        eventually(lambda: "hub takes messages again" in sidecar.log())
        pid = sidecar.pid
        told = [sidecar.log(), status(sidecar, "--json"), Path(f"/proc/{pid}/cmdline").read_text()]
        assert not [text for text in told if TOKEN in text or WRONG in text]
        assert "hub does not take messages for now" in sidecar.log()


def test_a_hub_that_is_not_trusted_is_unreachable_and_said_so_until_its_ca_is_trusted(
    tmp_path: Path, ca: Pair, closed_hub: RealHub
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority(other).certificate.read_bytes())
    with RealSidecar(tmp_path, client_of(closed_hub, tmp_path, trusted, TOKEN)) as sidecar:
        assert sidecar.ask(job_id=JOB, status="completed", bytes_transferred=9)["ok"]
        eventually(lambda: "cannot reach the hub" in sidecar.log())
        state = json.loads(status(sidecar, "--json"))["hub"]
        assert state["link"] == "down"
        assert state["last_error"].startswith("the hub's certificate is not trusted: ")
        assert "the hub's certificate is not trusted: " in sidecar.log()
        trusted.write_bytes(ca.certificate.read_bytes())
        sidecar.reload()
        eventually(lambda: closed_hub.rows(JOB)[0].status == "completed")
