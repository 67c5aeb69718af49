"""`sbcctl doctor` beside both daemons as real processes: over TLS, with a token."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from sbc_daemon.config import Hub, SidecarSettings
from sbc_daemon.doctor import diagnose
from sbc_daemon.doctor_finding import Finding, exit_code, told
from sha_daemon.config import Access, DatabaseSettings, HubSettings, Tls
from sha_daemon.tokens import line
from telemetry_common.settings import shown
from testbed.installation import hub_settings, sidecar_settings
from testbed.mariadb import PrivateMariaDB
from tests.support.certificates import Pair, authority, dated
from tests.support.stage import RealHub, RealSidecar, eventually

pytestmark = pytest.mark.integration
TOKEN = "sbt_" + "right-one" * 4
READER = "sbt_" + "reads-only" * 4


@pytest.fixture
def ca(tmp_path: Path) -> Pair:
    return authority(tmp_path)


@pytest.fixture
def hub(
    tmp_path: Path, ca: Pair, migrated_database: DatabaseSettings, mariadb_server: PrivateMariaDB
) -> Iterator[RealHub]:
    tokens = tmp_path / "tokens"
    tokens.write_text(line("client", "report", TOKEN) + "\n" + line("reader", "read", READER) + "\n")
    pair = dated(tmp_path, ca, "hub", 60)
    settings: HubSettings = structs.replace(
        hub_settings(migrated_database),
        access=Access(tokens_file=str(tokens)),
        tls=Tls(certificate=str(pair.certificate), key=str(pair.key)),
    )
    with RealHub(tmp_path, settings, mariadb_server) as running:
        yield running


def client_of(hub: RealHub, directory: Path, ca: Pair, token: str) -> SidecarSettings:
    token_file = directory / "hub.token"
    token_file.touch(0o600)
    token_file.write_text(token)
    url = hub.url.replace("http:", "https:")
    settings = sidecar_settings(directory, url)
    return structs.replace(settings, hub=Hub(url=url, token_file=str(token_file), ca_file=str(ca.certificate)))


def test_an_installation_that_works_is_all_well(tmp_path: Path, hub: RealHub, ca: Pair) -> None:
    hub.create_job("j1")
    with RealSidecar(tmp_path, client_of(hub, tmp_path, ca, TOKEN)) as sidecar:
        sidecar.say(b'{"job_id":"j1"}\n')

        def all_well() -> list[Finding] | None:
            found = diagnose(sidecar.config_file, {})
            return found if all(finding.level == "ok" for finding in found) else None

        found = eventually(all_well)
    assert exit_code(found) == 0
    assert {"hello", "daemon", "link", "hub", "tls", "clock", "token"} <= {finding.check for finding in found}


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("sbt_" + "wrong-one" * 4, "the hub does not let this client in: 401"),
        (READER, "the hub does not let this client in: 403"),
        ("", "is empty"),
    ],
    ids=["unknown", "may only read", "empty"],
)
def test_a_token_that_is_not_let_in_is_found_before_the_daemon_has_sent_anything(
    tmp_path: Path, hub: RealHub, ca: Pair, token: str, words: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(shown(client_of(hub, tmp_path, ca, token)))
    found = diagnose(config, {})
    finding = next(finding for finding in found if finding.check == "token")
    assert finding.level == "fail", told(found)
    assert words in finding.words
