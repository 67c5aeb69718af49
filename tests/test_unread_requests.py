"""What senders said while nobody read it: systemd keeps the socket while the hub is down; the next hub reads it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec import UNSET, json

from sha_daemon.app import Hub
from sha_daemon.config import HubSettings
from sha_daemon.gate import Gate
from sha_daemon.http_api import application
from sha_daemon.records import Job
from sha_daemon.serving import listening_socket, served
from sha_daemon.waited import aged, unread_seconds
from telemetry_common.clock import SystemClock
from telemetry_common.contract import Update
from telemetry_common.lifecycle import Lifecycle
from testbed.memory_database import MemoryDatabase
from tests.support.hub import Heard, Shared

ABSENT_SECONDS = 1.5


def posted(path: str, body: bytes) -> bytes:
    head = f"POST /api/v1/telemetry/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


SINGLE = posted("backup/j1", b'{"status":"completed","seq":1,"age_seconds":10}')
BATCH = posted("batch", b'{"updates":[{"job_id":"j1","status":"completed","seq":1,"age_seconds":10}]}')


@asynccontextmanager
async def hub_on(sock: socket.socket, database: MemoryDatabase) -> AsyncIterator[None]:
    settings, clock = HubSettings(), SystemClock()
    hub = Hub(settings, clock, lambda kind, purpose: Shared(database), Lifecycle(Heard(), clock))
    async with (
        hub.running(None),
        served(application(hub, Gate()), sock, settings.listen, on_turned_away=hub.turned_away, stop_seconds=1.0),
    ):
        hub.accepting(True)
        yield


async def until_stored(database: MemoryDatabase) -> float:
    """The event time of the job's first sample."""
    async with asyncio.timeout(10):
        while not database.tables.history:
            await asyncio.sleep(0.01)
    (sample,) = database.tables.history["j1"].values()
    return sample.at


@pytest.mark.parametrize("request_bytes", [SINGLE, BATCH], ids=["single", "batch"])
async def test_an_end_that_lay_unread_is_dated_by_when_it_came(request_bytes: bytes) -> None:
    database = MemoryDatabase(SystemClock())
    database.add_job(Job(job_id="j1", status="running"))
    sock = listening_socket("127.0.0.1:0", {})
    sock.setblocking(False)
    with socket.create_connection(sock.getsockname()) as sender:
        sender.sendall(request_bytes)
        said = SystemClock().wall()
    await asyncio.sleep(ABSENT_SECONDS)
    async with hub_on(sock, database):
        assert await until_stored(database) == pytest.approx(said - 10, abs=0.4)


async def test_a_sender_that_connected_early_and_speaks_now_speaks_of_now() -> None:
    database = MemoryDatabase(SystemClock())
    database.add_job(Job(job_id="j1", status="running"))
    sock = listening_socket("127.0.0.1:0", {})
    with socket.create_connection(sock.getsockname()) as sender:
        await asyncio.sleep(ABSENT_SECONDS)
        async with hub_on(sock, database):
            await asyncio.sleep(0.2)
            said = SystemClock().wall()
            sender.sendall(SINGLE)
            assert await until_stored(database) == pytest.approx(said - 10, abs=0.4)


def test_where_nobody_can_tell_nothing_has_waited() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"POST")
        assert unread_seconds(here) == 0.0


def test_what_waited_adds_to_the_age_that_was_said() -> None:
    fresh, old = (
        json.decode(body, type=Update) for body in (b'{"status":"running"}', b'{"status":"running","age_seconds":2}')
    )
    assert (aged(fresh, 0.0).age_seconds, aged(fresh, 3.0).age_seconds, aged(old, 3.0).age_seconds) == (UNSET, 3.0, 5.0)
