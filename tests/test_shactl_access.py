"""shactl at a hub that wants to know who asks: tokens made, tokens used, and the hub's own certificate trusted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from msgspec import structs

from sha_daemon.config import Access, HubSettings, Listen, Tls
from sha_daemon.shactl import main
from sha_daemon.tokens import RIGHTS, Token, fingerprint, line, parse
from telemetry_common.settings import shown
from tests.support.certificates import Pair, authority, dated, server
from tests.support.front_door import FrontDoor, front_door

Shactl = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shactl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shactl:
    """Run a command line with these settings; (exit code, standard output, standard error)."""

    def run(settings: HubSettings, *words: str) -> tuple[int, str, str]:
        config = tmp_path / "hub.toml"
        config.write_text(shown(settings))
        try:
            code = main(["--config", str(config), *words])
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize("right", ["report", "read", "both"])
def test_a_token_is_shown_once_with_the_line_that_lets_the_hub_know_it(shactl: Shactl, right: str) -> None:
    code, out, err = shactl(HubSettings(), "token", "create", "--name", "client-7", "--right", right)
    assert (code, err) == (0, "")
    token, text = out.splitlines()[1], out.splitlines()[4]
    assert parse(text) == {fingerprint(token): Token("client-7", RIGHTS[right])}
    assert token.startswith("sbt_")
    assert len(token) == len("sbt_") + 43
    assert token not in text


def test_no_two_tokens_are_alike_and_the_hub_s_file_is_named(shactl: Shactl) -> None:
    settings = HubSettings(access=Access(tokens_file="/etc/sha-daemon/tokens"))
    made = [shactl(settings, "token", "create", "--name", "a", "--right", "read")[1] for _ in range(2)]
    assert made[0].splitlines()[1] != made[1].splitlines()[1]
    assert "line for /etc/sha-daemon/tokens:" in made[0]
    assert "systemctl reload sha-daemon" in made[0]


@pytest.mark.parametrize(
    "words",
    [
        ["token"],
        ["token", "create"],
        ["token", "create", "--name", "a"],
        ["token", "create", "--name", "a b", "--right", "read"],
        ["token", "create", "--name", "a", "--right", "write"],
        ["token", "create", "--name", "a", "--right", "read", "--token", "sbt_mine"],
    ],
)
def test_wrong_usage_is_exit_2(shactl: Shactl, words: list[str]) -> None:
    assert shactl(HubSettings(), *words)[0] == 2


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return server(tmp_path, authority(tmp_path))


@pytest.fixture
def closed(tmp_path: Path, pair: Pair) -> HubSettings:
    """A hub with TLS that lets nobody in without a token."""
    tokens = tmp_path / "tokens"
    tokens.write_text("\n".join([line("ops", "read", "sbt_ops"), line("client", "report", "sbt_client")]))
    return HubSettings(
        access=Access(tokens_file=str(tokens)), tls=Tls(certificate=str(pair.certificate), key=str(pair.key))
    )


@pytest.fixture
async def door(closed: HubSettings) -> AsyncIterator[FrontDoor]:
    async with front_door(closed) as opened:
        yield opened


def at(settings: HubSettings, door: FrontDoor) -> HubSettings:
    return structs.replace(settings, listen=Listen(f"127.0.0.1:{door.port}"))


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "ops.token"
    path.write_text("sbt_ops\n")
    return path


async def test_with_a_token_in_a_file_shactl_reads_over_tls(
    shactl: Shactl, door: FrontDoor, closed: HubSettings, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = at(closed, door)
    for words in (("--token-file", str(token_file), "jobs"), ("jobs", "--token-file", str(token_file), "--limit", "5")):
        code, out, err = await asyncio.to_thread(shactl, settings, *words)
        assert (code, "j1" in out, err) == (0, True, "")
    monkeypatch.setenv("SHACTL_TOKEN_FILE", str(token_file))
    assert (await asyncio.to_thread(shactl, settings, "job", "show", "j1"))[0] == 0


async def test_without_the_right_token_it_says_what_would_help(
    shactl: Shactl, door: FrontDoor, closed: HubSettings, token_file: Path
) -> None:
    settings = at(closed, door)
    code, _, err = await asyncio.to_thread(shactl, settings, "jobs")
    assert (code, "it answered 401: a token is needed" in err, "shactl --token-file" in err) == (2, True, True)
    token_file.write_text("sbt_client")
    code, _, err = await asyncio.to_thread(shactl, settings, "--token-file", str(token_file), "jobs")
    assert (code, "it answered 403: the token 'client' has no right to read" in err) == (2, True)


@pytest.mark.parametrize("content", ["", "two words", "sbt_a\nsbt_b", "\x00", "sbt_ä", None])
def test_a_token_file_that_cannot_be_used_is_exit_2(shactl: Shactl, token_file: Path, content: str | None) -> None:
    if content is None:
        token_file.unlink()
    else:
        token_file.write_text(content)
    code, out, err = shactl(HubSettings(), "--token-file", str(token_file), "jobs")
    assert (code, out) == (2, "")
    assert str(token_file) in err


async def test_another_server_of_the_same_ca_is_not_taken_for_the_hub(
    shactl: Shactl, door: FrontDoor, closed: HubSettings, tmp_path: Path, token_file: Path
) -> None:
    """The hub's own certificate is trusted, not whoever signed it."""
    other = server(tmp_path, Pair(tmp_path / "ca.crt", tmp_path / "ca.key"), "other")
    impostor = structs.replace(at(closed, door), tls=Tls(certificate=str(other.certificate), key=str(other.key)))
    code, _, err = await asyncio.to_thread(shactl, impostor, "--token-file", str(token_file), "jobs")
    assert (code, "its certificate is not trusted: " in err, "running?" in err) == (2, True, False)


async def test_a_hub_with_tls_is_asked_with_the_certificate_that_is_named(
    shactl: Shactl,
    door: FrontDoor,
    closed: HubSettings,
    pair: Pair,
    token_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where certificate and key are only in the service's own environment."""
    settings = structs.replace(at(closed, door), tls=Tls())
    words = ("jobs", "--token-file", str(token_file))
    code, _, err = await asyncio.to_thread(shactl, settings, *words)
    assert (code, "does the hub speak TLS? Then see shactl --certificate" in err) == (2, True)
    code, out, err = await asyncio.to_thread(shactl, settings, *words, "--certificate", str(pair.certificate))
    assert (code, "j1" in out, err) == (0, True, "")
    monkeypatch.setenv("SHACTL_CERTIFICATE", str(pair.certificate))
    assert (await asyncio.to_thread(shactl, settings, *words))[0] == 0


async def test_a_hub_without_tls_is_said_to_have_none(shactl: Shactl, closed: HubSettings) -> None:
    async with front_door() as door:
        code, _, err = await asyncio.to_thread(shactl, at(closed, door), "jobs")
    assert (code, "no TLS with it: " in err, "does it run with tls.certificate?" in err) == (2, True, True)


async def test_an_expired_certificate_is_said_to_be(shactl: Shactl, closed: HubSettings, tmp_path: Path) -> None:
    ended = dated(tmp_path, Pair(tmp_path / "ca.crt", tmp_path / "ca.key"), "ended", days=-1)
    settings = structs.replace(closed, tls=Tls(certificate=str(ended.certificate), key=str(ended.key)))
    async with front_door(settings) as door:
        code, _, err = await asyncio.to_thread(shactl, at(settings, door), "jobs")
    assert (code, "certificate has expired" in err, "running?" in err) == (2, True, False)


async def test_of_a_chain_only_the_hub_s_own_certificate_is_trusted(
    shactl: Shactl, door: FrontDoor, closed: HubSettings, tmp_path: Path, pair: Pair, token_file: Path
) -> None:
    authority_of_all = (tmp_path / "ca.crt").read_text()
    pair.certificate.write_text(pair.certificate.read_text() + authority_of_all)
    words = ("--token-file", str(token_file), "jobs")
    assert (await asyncio.to_thread(shactl, at(closed, door), *words))[0] == 0
    other = server(tmp_path, Pair(tmp_path / "ca.crt", tmp_path / "ca.key"), "other")
    pair.certificate.write_text(other.certificate.read_text() + authority_of_all)
    assert (await asyncio.to_thread(shactl, at(closed, door), *words))[0] == 2


def test_the_configuration_may_be_named_behind_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "--config", str(tmp_path / "none.toml")]) == 2
    assert f"cannot read {tmp_path / 'none.toml'}" in capsys.readouterr().err


def test_a_certificate_that_is_none_is_exit_2(shactl: Shactl, tmp_path: Path) -> None:
    nothing = tmp_path / "hub.crt"
    nothing.write_text("no certificate")
    settings = HubSettings(tls=Tls(certificate=str(nothing), key=str(nothing)))
    code, _, err = shactl(settings, "jobs")
    assert (code, f"cannot use {nothing}: expected a certificate in PEM" in err) == (2, True)
