"""Who gets past the hub's gate: by the name it was called, and by token."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sha_daemon.config import Access, HubSettings, Listen
from sha_daemon.edge import Edge
from sha_daemon.http_access import DESCRIPTION, DOCS, HEALTH, right_for
from sha_daemon.tokens import line
from telemetry_common.settings import SettingsError
from tests.support.front_door import PATH, FrontDoor, front_door

RUNNING = b'{"status":"running"}'


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text("\n".join(line(right, right, f"sbt_{right}") for right in ("report", "read", "both")))
    return path


@pytest.fixture
async def door(tokens_file: Path) -> AsyncIterator[FrontDoor]:
    async with front_door(HubSettings(access=Access(tokens_file=str(tokens_file)))) as opened:
        yield opened


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("token", "method", "path", "status"),
    [
        ("sbt_report", "POST", f"{PATH}/j1", 204),
        ("sbt_both", "POST", f"{PATH}/j1", 204),
        ("sbt_read", "POST", f"{PATH}/j1", 403),
        ("sbt_wrong", "POST", f"{PATH}/j1", 401),
        ("sbt_read", "GET", f"{PATH}/j1", 200),
        ("sbt_both", "GET", PATH, 200),
        ("sbt_report", "GET", f"{PATH}/j1", 403),
        ("sbt_wrong", "GET", PATH, 401),
        ("sbt_wrong", "GET", HEALTH, 200),
    ],
)
async def test_a_token_opens_what_it_has_a_right_to(
    door: FrontDoor, token: str, method: str, path: str, status: int
) -> None:
    answer = await door.ask(method, path, bearing(token), RUNNING if method == "POST" else b"")
    assert answer.status == status


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "sbt_both",
        "Basic c2J0X2JvdGg6",
        "Bearer sbt_both x",
        "Bearer \xff\xfe",
        "Bearer " + "x" * 4000,
    ],
)
async def test_without_a_token_that_is_known_it_is_401_with_a_challenge(
    door: FrontDoor, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await door.ask("POST", f"{PATH}/j1", headers, RUNNING)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="telemetry"')
    assert "token" in answer.detail
    assert door.edge.gate.refused[401] == 1


async def test_the_scheme_is_known_in_any_case(door: FrontDoor) -> None:
    assert (await door.ask("GET", PATH, {"authorization": "bearer  sbt_read"})).status == 200


async def test_a_lacking_right_is_named(door: FrontDoor) -> None:
    answer = await door.ask("GET", PATH, bearing("sbt_report"))
    assert answer.status == 403
    assert answer.detail == "the token 'report' has no right to read"
    assert 'error="insufficient_scope", scope="read"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("GET", PATH, "read"),
        ("HEAD", PATH, "read"),
        ("POST", PATH, "report"),
        ("PUT", "/whatever/comes", "report"),
        ("GET", "/metrics", "read"),
        ("GET", HEALTH, None),
        ("GET", DOCS, None),
        ("GET", DESCRIPTION, None),
        ("POST", DESCRIPTION, None),
        ("GET", f"{HEALTH}/more", "read"),
    ],
)
def test_one_rule_says_which_right_a_route_needs(method: str, path: str, right: str | None) -> None:
    assert right_for(method, path) == right


async def test_health_needs_no_token(door: FrontDoor) -> None:
    assert (await door.ask("GET", HEALTH)).status == 200


async def test_a_refused_sender_is_not_heard(door: FrontDoor) -> None:
    await door.ask("POST", f"{PATH}/j1", {}, RUNNING)
    assert b'"last_telemetry_at":null' in (await door.ask("GET", f"{PATH}/j1", bearing("sbt_read"))).body


async def test_a_token_that_was_taken_out_opens_nothing_after_a_reload(door: FrontDoor, tokens_file: Path) -> None:
    tokens_file.write_text(line("new", "read", "sbt_new"))
    assert (await door.ask("GET", PATH, bearing("sbt_read"))).status == 200
    assert door.edge.reloadable["tokens"]() == "1 known"
    assert (await door.ask("GET", PATH, bearing("sbt_read"))).status == 401
    assert (await door.ask("GET", PATH, bearing("sbt_new"))).status == 200


async def test_a_broken_file_is_refused_on_reload_and_the_running_set_stays(door: FrontDoor, tokens_file: Path) -> None:
    tokens_file.write_text("who knows\n")
    with pytest.raises(
        SettingsError,
        match=f"cannot use {re.escape(str(tokens_file))} .access.tokens_file.: line 1: expected NAME RIGHT",
    ):
        door.edge.reloadable["tokens"]()
    tokens_file.unlink()
    with pytest.raises(SettingsError, match="No such file"):
        door.edge.reloadable["tokens"]()
    assert (await door.ask("GET", PATH, bearing("sbt_read"))).status == 200


@pytest.mark.parametrize("content", [b"a b c", b"\xff\xfe", None])
def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tokens"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=re.escape(str(path))):
        Edge(HubSettings(access=Access(tokens_file=str(path))))


async def test_no_route_is_open_but_health_and_the_description(door: FrontDoor) -> None:
    """Also of those that nobody has thought of yet; what is no route at all says so to everybody."""
    asked = 0
    for method, path in door.routes:
        answer = await door.ask(method, path.replace("{job_type}", "backup").replace("{job_id}", "j1"))
        assert answer.status == (200 if path in (HEALTH, DESCRIPTION, DOCS) else 401), (method, path)
        asked += 1
    assert asked > 4
    assert (await door.ask("GET", "/api/v1/nothing")).status == 404


@pytest.mark.parametrize("host", ["localhost:8082", "127.0.0.1", "127.3.2.1:1", "[::1]:8082", "hub.example"])
async def test_on_loopback_the_hub_answers_to_its_own_names(host: str) -> None:
    async with front_door(HubSettings(listen=Listen(allowed_hosts=("hub.example",)))) as door:
        assert (await door.ask("POST", f"{PATH}/j1", {"Host": host}, RUNNING)).status == 204
        assert (await door.ask("GET", HEALTH, {"Host": host})).status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8082", "127.0.0.1.evil.example", "", "10.0.0.1"])
async def test_on_loopback_a_name_that_a_web_page_made_up_is_misdirected(host: str) -> None:
    async with front_door() as door:
        for method, path in (("POST", f"{PATH}/j1"), ("GET", PATH), ("GET", HEALTH)):
            answer = await door.ask(method, path, {"Host": host}, RUNNING)
            assert answer.status == 421
            assert "listen.allowed_hosts" in answer.detail
        assert door.edge.gate.refused[421] == 3


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://evil.example", "localhost", 421),
        ("http://evil.example:8082", "localhost", 421),
        ("http://localhost@evil.example", "localhost", 421),
        ("http://localhost:8082", "localhost", 204),
        ("http://[::1]:8082", "localhost", 204),
    ],
)
async def test_a_host_in_the_target_of_the_request_counts_before_the_header(
    target: str, host: str, status: int
) -> None:
    async with front_door() as door:
        answer = await door.ask("POST", f"{target}{PATH}/j1", {"Host": host}, RUNNING)
        assert answer.status == status


async def test_a_client_too_old_to_name_a_host_was_sent_by_no_browser() -> None:
    async with front_door() as door:
        assert (await door.say(f"GET {PATH} HTTP/1.0\r\n\r\n".encode())).status == 200


async def test_two_names_at_once_are_no_request() -> None:
    async with front_door() as door:
        answer = await door.say(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n".encode())
        assert answer.status == 400
        assert "Host" in answer.detail


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        ((), "whatever.example", 200),
        (("hub.example",), "hub.example", 200),
        (("hub.example",), "whatever.example", 421),
    ],
)
async def test_on_a_network_address_names_are_checked_where_some_are_given(
    allowed: tuple[str, ...], host: str, status: int
) -> None:
    async with front_door(HubSettings(listen=Listen(address="0.0.0.0:8082", allowed_hosts=allowed))) as door:
        assert (await door.ask("GET", PATH, {"Host": host})).status == status


@pytest.mark.parametrize("path", [PATH, f"{PATH}/j1", HEALTH])
async def test_no_page_of_another_origin_is_let_in(path: str) -> None:
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    async with front_door() as door:
        for method, status in (("OPTIONS", 405), ("GET", 200)):
            answer = await door.ask(method, path, asked)
            assert answer.status == status
            assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("address", "tokens", "said"),
    [
        ("127.0.0.1:8082", False, []),
        ("0.0.0.0:8082", True, ["what is reported and read crosses the network in clear: tls.certificate is not set"]),
        (
            "[::]:8082",
            False,
            [
                "whoever reaches the address may report and read: access.tokens_file is not set",
                "what is reported and read crosses the network in clear: tls.certificate is not set",
            ],
        ),
    ],
)
def test_an_open_hub_says_so(tokens_file: Path, address: str, tokens: bool, said: list[str]) -> None:
    access = Access(tokens_file=str(tokens_file)) if tokens else Access()
    assert list(Edge(HubSettings(listen=Listen(address=address), access=access)).warnings()) == said
