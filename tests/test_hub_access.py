"""How the hub knows this client: the token from its file, strict at the start and on a reload, shown to none else."""

import os
import re
from pathlib import Path

import pytest

from sbc_daemon.config import Hub
from sbc_daemon.hub_access import HubAccess
from sbc_daemon.hub_link import HttpHubLink
from sbc_daemon.hub_token import read_token
from sha_daemon.config import Access, HubSettings
from sha_daemon.tokens import line
from telemetry_common.private_file import MAX_BYTES
from telemetry_common.settings import SettingsError
from tests.support.front_door import front_door

TOKEN = "sbt_" + "aB3-_" * 8


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    return written(tmp_path / "hub.token", TOKEN + "\n")


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("text", [TOKEN, f"{TOKEN}\n", f" {TOKEN}\r\n\n"])
def test_a_line_in_a_private_file_is_the_token(tmp_path: Path, text: str) -> None:
    assert read_token(written(tmp_path / "t", text, 0o400)) == TOKEN


@pytest.mark.parametrize(
    ("text", "mode", "complaint"),
    [
        ("", 0o600, "it is empty; expected a token"),
        (" \n\n", 0o600, "it is empty"),
        (f"{TOKEN}\n{TOKEN}\n", 0o600, "it has several lines; expected one"),
        (f"client-7 report {TOKEN}", 0o600, "this is no token; expected one word"),
        (f"{TOKEN}\x00", 0o600, "this is no token"),
        ("pässword", 0o600, "this is no token"),
        ("x" * (MAX_BYTES + 1), 0o600, "this is no token"),
        (TOKEN, 0o640, "it is open to its group; expected mode 0600"),
        (TOKEN, 0o604, "it is open to everybody; expected mode 0600"),
        (TOKEN, 0o620, "it is open to its group"),
    ],
)
def test_anything_else_is_refused_by_name_and_not_quoted(tmp_path: Path, text: str, mode: int, complaint: str) -> None:
    path = written(tmp_path / "t", text, mode)
    with pytest.raises(SettingsError, match=re.escape(f"cannot use {path}: {complaint}")) as refused:
        read_token(path)
    assert not text.strip() or text.strip() not in str(refused.value)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(SettingsError, match=r"cannot read .*/none: No such file or directory"):
        read_token(tmp_path / "none")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SettingsError, match=f"cannot use {path}: expected a file"):
            read_token(path)


def test_what_systemd_handed_over_is_private_by_its_directory(tmp_path: Path) -> None:
    """Its mode is 0440: what stands for the group there is the mask of the service's ACL."""
    path = written(tmp_path / "hub.token", TOKEN, 0o440)
    assert read_token(path, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == TOKEN
    for elsewhere in (str(tmp_path / "other"), ""):
        with pytest.raises(SettingsError, match="open to its group"):
            read_token(path, {"CREDENTIALS_DIRECTORY": elsewhere})


async def test_the_hub_lets_in_who_has_its_token_and_after_a_reload_who_has_the_new_one(
    tmp_path: Path, token_file: Path
) -> None:
    tokens = written(tmp_path / "tokens", line("client-7", "report", TOKEN))
    hub = Hub(token_file=str(token_file))
    async with front_door(HubSettings(access=Access(tokens_file=str(tokens)))) as door:
        access = HubAccess(hub)
        link = HttpHubLink(f"http://127.0.0.1:{door.port}", 5.0, access)
        stranger = HttpHubLink(f"http://127.0.0.1:{door.port}", 5.0, HubAccess(Hub()))
        body = b'{"status":"running","seq":1}'
        assert (await link.post("j1", body)).status == 204
        assert (await stranger.post("j1", body)).status == 401
        written(token_file, "another")
        assert access.reloadable["token"]() == "another one"
        assert (await link.post("j1", body)).status == 401
        written(token_file, "")
        with pytest.raises(SettingsError, match="it is empty"):
            access.reloadable["token"]()
        written(token_file, TOKEN)
        assert access.reloadable["token"]() == "another one"
        assert access.reloadable["token"]() == "as it was"
        assert (await link.post("j1", body)).status == 204
        await link.close()
        await stranger.close()


def test_a_broken_file_is_refused_on_reload_and_the_running_token_goes_on(token_file: Path) -> None:
    access = HubAccess(Hub(token_file=str(token_file)))
    written(token_file, "two\nlines")
    with pytest.raises(SettingsError, match="several lines"):
        access.reloadable["token"]()
    assert access.headers == {"Authorization": f"Bearer {TOKEN}"}


def test_without_a_token_nothing_is_sent_and_nothing_is_reloaded() -> None:
    access = HubAccess(Hub())
    assert (access.headers, access.reloadable, access.masked(b"text")) == ({}, {}, b"text")


def test_the_token_shows_in_no_text_about_its_holder(token_file: Path) -> None:
    access = HubAccess(Hub(token_file=str(token_file)))
    assert TOKEN not in f"{access!r} {access}"
    assert access.masked(f"you sent Bearer {TOKEN}!".encode()) == b"you sent Bearer ***!"


@pytest.mark.parametrize(
    ("url", "in_clear"),
    [
        ("http://127.0.0.1:8082", False),
        ("http://[::1]:8082", False),
        ("http://localhost:8082", False),
        ("https://hub.example", False),
        ("http://hub.example", True),
        ("http://10.0.0.7:8082", True),
    ],
)
def test_a_token_that_crosses_the_network_in_clear_is_warned_of(token_file: Path, url: str, in_clear: bool) -> None:
    assert bool(list(HubAccess(Hub(url=url, token_file=str(token_file))).warnings())) is in_clear
    assert not list(HubAccess(Hub(url=url)).warnings())
