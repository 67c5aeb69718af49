"""Which of several database servers is tried first, and what may stand in `database.hosts`."""

import re

import msgspec
import pytest

from sha_daemon.config import DatabaseSettings
from sha_daemon.servers import Server, Servers, server

ONE, TWO, THREE = Server("db1", 3306), Server("db2", 3306), Server("db3", 3306)


@pytest.mark.parametrize(
    ("address", "host", "port", "shown"),
    [
        ("db1", "db1", 3306, "db1:3306"),
        ("db1.example:3307", "db1.example", 3307, "db1.example:3307"),
        ("10.0.0.5", "10.0.0.5", 3306, "10.0.0.5:3306"),
        ("[fc00::5]", "fc00::5", 3306, "[fc00::5]:3306"),
        ("[fc00::5]:3307", "fc00::5", 3307, "[fc00::5]:3307"),
    ],
)
def test_a_host_has_a_port_or_the_usual_one(address: str, host: str, port: int, shown: str) -> None:
    assert server(address) == Server(host, port)
    assert str(server(address)) == shown


@pytest.mark.parametrize(
    "address",
    ["", ":3306", "db1:", "db1:0", "db1:65536", "db1:http", "db 1", "fc00::5", "db1/x", "u@db1", "[db1", "dbé", "db\n"],
)
def test_anything_else_is_refused_by_the_name_of_the_key(address: str) -> None:
    with pytest.raises(ValueError, match="`hosts` must be HOST or HOST:PORT"):
        server(address)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"hosts": ("db1",)}, "`password_file` must be given with `hosts`"),
        ({"password_file": "/p"}, "`password_file` is of use only with `hosts`"),
        ({"hosts": ("db1",), "password_file": "p"}, "`password_file` must be an absolute path"),
        ({"hosts": ("db1", "db1:3306"), "password_file": "/p"}, "`hosts` must each be there once"),
        ({"ca_file": "/ca"}, "`ca_file` is of use only with `hosts` and `tls`"),
        ({"hosts": ("db1",), "password_file": "/p", "tls": False, "ca_file": "/ca"}, "`ca_file` is of use only"),
    ],
)
def test_what_does_not_fit_together_is_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=re.escape(complaint)):
        msgspec.convert(settings, DatabaseSettings)


def test_they_are_tried_in_the_order_of_the_list() -> None:
    assert Servers([ONE, TWO, THREE]).in_order() == (ONE, TWO, THREE)


def test_one_that_serves_stays_first_until_it_fails() -> None:
    servers = Servers([ONE, TWO, THREE])
    assert not servers.serves(ONE)
    assert servers.serves(TWO)
    assert not servers.serves(TWO)
    assert servers.in_order() == (TWO, THREE, ONE)
    servers.failed(TWO)
    assert servers.in_order() == (THREE, ONE, TWO)


def test_the_failure_of_one_that_is_not_in_use_changes_nothing() -> None:
    servers = Servers([ONE, TWO])
    servers.failed(TWO)
    assert servers.in_order() == (ONE, TWO)


def test_after_the_last_comes_the_first() -> None:
    servers = Servers([ONE, TWO])
    servers.failed(ONE)
    servers.failed(TWO)
    assert servers.in_order() == (ONE, TWO)
