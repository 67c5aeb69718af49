"""Too few file descriptors: the hub takes fewer connections, says so, and is never deaf for long."""

import asyncio
import resource
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sha_daemon.config import Listen
from sha_daemon.descriptors import RESERVE, fitting, limit_for, shortage
from telemetry_common.settings import SettingsError
from testbed.processes import clean_environment, installed
from tests.support.front_door import FrontDoor, front_door, request

HEALTH = request("GET", "/api/v1/health")


@contextmanager
def limited(soft: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("limit", "taken"), [(10_000, 4000), (4000 + RESERVE, 4000), (1024, 1024 - RESERVE)])
def test_as_many_connections_are_taken_as_there_are_descriptors_for(limit: int, taken: int) -> None:
    assert fitting(Listen(), limit) == Listen(max_connections=taken)


def test_a_limit_without_room_for_a_connection_stops_the_start() -> None:
    with pytest.raises(SettingsError, match=rf"the limit on file descriptors is {RESERVE}.* listen\.max_connections"):
        fitting(Listen(), RESERVE)


def test_a_shortage_names_what_was_asked_and_what_is_there() -> None:
    asked = Listen()
    assert shortage(asked, asked) is None
    said = shortage(asked, fitting(asked, 1024))
    assert said is not None
    assert said.endswith(f"asked=4000 taken={1024 - RESERVE} limit=1024 needed={4000 + RESERVE}")


def test_the_soft_limit_is_raised_as_far_as_needed_and_allowed() -> None:
    with limited(300):
        assert limit_for(50) == 50 + RESERVE  # the soft limit is enough
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300
        assert limit_for(200) == 200 + RESERVE
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 200 + RESERVE


def test_a_check_warns_of_a_shortage(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    checked = subprocess.run(
        ["prlimit", "--nofile=1024:1024", installed("sha-daemon"), "--config", str(config), "--check"],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
    )
    assert "warning: too few file descriptors for listen.max_connections" in checked.stderr
    assert "can be used" in checked.stdout


async def waiting_in_vain(door: FrontDoor) -> socket.socket:
    """A connection made when there is no descriptor left for its other end."""
    sock = socket.socket()
    sock.setblocking(False)
    lowest_free = sock.fileno() + 1
    with limited(lowest_free):
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", door.port))
        await asyncio.sleep(0.1)
    return sock


async def test_without_descriptors_connections_wait_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with front_door() as door:
        sock = await waiting_in_vain(door)
        (said,) = [record for record in caplog.records if "cannot accept" in record.getMessage()]
        assert said.getMessage() == ('cannot accept connections; they wait reason="[Errno 24] Too many open files"')
        assert len(caplog.records) < 5
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(HEALTH)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert caplog.text.count("connections are accepted again") == 1
        writer.close()
