"""The hub's front door: one connection too many is told so at once, and the hub knows that it turned somebody away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from sha_daemon.config import Listen
from sha_daemon.serving import listening_socket, served
from telemetry_common.settings import SettingsError


@asynccontextmanager
async def door(max_connections: int) -> AsyncIterator[tuple[int, list[str]]]:
    """A server that says 204 to everything; its port, and a list that grows with each who was turned away."""

    async def nothing(_: web.Request) -> web.Response:
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/", nothing)
    away: list[str] = []
    sock = listening_socket("127.0.0.1:0", {})
    port: int = sock.getsockname()[1]

    def turned_away() -> None:
        away.append("somebody")

    listen = Listen(max_connections=max_connections)
    async with served(app, sock, listen, on_turned_away=turned_away, stop_seconds=1):
        yield port, away


async def ask(port: int) -> tuple[bytes, asyncio.StreamWriter]:
    """The status line of an answer, and the connection, which stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    return (await reader.readline()).strip(), writer


async def test_one_connection_too_many_gets_503_and_is_noticed() -> None:
    async with door(max_connections=2) as (port, away):
        open_ones = [await ask(port) for _ in range(2)]
        assert [status for status, _ in open_ones] == [b"HTTP/1.1 204 No Content"] * 2
        assert away == []
        status, refused = await ask(port)
        assert (status, away) == (b"HTTP/1.1 503 Service Unavailable", ["somebody"])
        for _, writer in [*open_ones, (status, refused)]:
            writer.close()


async def test_a_place_is_free_again_when_its_connection_has_gone() -> None:
    async with door(max_connections=1) as (port, _):
        for _ in range(3):
            status, writer = await ask(port)
            assert status == b"HTTP/1.1 204 No Content"
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0.01)


async def test_an_address_that_is_taken_is_said_so() -> None:
    async with door(max_connections=1) as (port, _):
        with pytest.raises(
            SettingsError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use; another program"
        ):
            listening_socket(f"127.0.0.1:{port}", {})


def test_an_address_that_this_machine_does_not_have_is_said_so() -> None:
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1:8082: Cannot assign.*; this machine has no such address"):
        listening_socket("192.0.2.1:8082", {})


def test_a_socket_of_another_address_than_the_settings_stops_the_start() -> None:
    given = listening_socket("127.0.0.1:0", {})
    with given, pytest.raises(SettingsError, match=r"systemctl edit sha-daemon\.socket"):
        listening_socket("127.0.0.1:8082", {"sha-daemon.socket": [given]})
