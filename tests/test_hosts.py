"""By which names the hub may be called."""

import pytest

from sha_daemon.hosts import Hosts, host_name, is_loopback


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:8082", "localhost"),
        ("hub.example.:80", "hub.example"),
        ("127.0.0.1:8082", "127.0.0.1"),
        ("[::1]:8082", "::1"),
        ("[::1]", "::1"),
        ("hub:", "hub"),
        ("", None),
        ("::1", None),
        ("hub:port", None),
        ("hub:123456", None),
        ("user@hub", None),
        ("hub/path", None),
        ("a b", None),
        ("hub\n", None),
        ("\u0661\u0662\u0667.0.0.1", None),
        ("\udcff", None),
    ],
)
def test_a_name_is_taken_out_of_its_header(header: str, name: str | None) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.8.7", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("hub.example", False),
        ("127.1", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
    ],
)
def test_loopback_is_what_cannot_be_reached_from_elsewhere(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    "header", ["localhost:8082", "127.0.0.1", "[::1]:1", "hub.example", "HUB.example:8082", "[fd00::1]"]
)
def test_loopback_and_what_was_allowed_is_admitted(header: str) -> None:
    assert Hosts(["Hub.Example", "[fd00::1]"]).admits(header)


@pytest.mark.parametrize("header", ["evil.example", "hub.example.evil.example", "", "fd00::1", "169.254.0.1:80"])
def test_every_other_name_is_not(header: str) -> None:
    assert not Hosts(["hub.example", "[fd00::1]"]).admits(header)


def test_what_is_remembered_of_headers_is_bounded() -> None:
    hosts = Hosts([])
    for port in range(10_000):
        hosts.admits(f"localhost:{port}")
    assert hosts.admits.cache_info().currsize <= 256
