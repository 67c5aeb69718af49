"""Slow, silent and odd clients: each gets what it deserves, and nobody else notices."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from sha_daemon import http_bodies
from sha_daemon.config import HubSettings, Listen
from sha_daemon.connections import Connections
from sha_daemon.http_connection import LIMITS
from sha_daemon.serving import listening_socket, served
from tests.support.front_door import PATH, FrontDoor, answer, end, front_door, request

PATIENCE = 0.4
IMPATIENT = Listen(patience_seconds=PATIENCE, keepalive_seconds=20)
GET = request("GET", "/api/v1/health")


@pytest.fixture
async def door() -> AsyncIterator[FrontDoor]:
    async with front_door(HubSettings(listen=IMPATIENT)) as opened:
        yield opened


async def dribble(writer: asyncio.StreamWriter, text: bytes) -> None:
    """A byte at a time, always well before anybody's patience ends."""
    try:
        for place in range(len(text)):
            writer.write(text[place : place + 1])
            await writer.drain()
            await asyncio.sleep(PATIENCE / 20)
    except ConnectionError:
        pass


async def test_who_connects_and_says_nothing_is_cut_off(door: FrontDoor) -> None:
    reader, writer = await door.connect()
    assert await end(reader) == b""
    assert door.connections.cut_off == 1
    writer.close()


@pytest.mark.parametrize("before", [0, 1], ids=["first request", "second request"])
async def test_a_head_that_comes_in_drops_is_cut_off(door: FrontDoor, before: int) -> None:
    reader, writer = await door.connect()
    for _ in range(before):
        writer.write(GET)
        assert (await answer(reader)).status == 200
    task = asyncio.create_task(dribble(writer, request("GET", PATH, {"X-Long": "a" * 1000})))
    assert await end(reader) == b""
    assert door.connections.cut_off == 1
    await task
    writer.close()


async def test_a_body_that_comes_in_drops_is_the_handlers_to_time(door: FrontDoor) -> None:
    """It has 30 s, and an answer that says so."""
    reader, writer = await door.connect()
    body = b'{"status":"running"}' + b" " * 10
    whole = request("POST", f"{PATH}/j1", {}, body)
    writer.write(whole[: -len(body)])
    await dribble(writer, body)
    assert (await answer(reader)).status == 204
    assert door.connections.cut_off == 0
    writer.close()


async def test_a_body_that_does_not_come_is_a_408(door: FrontDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_bodies, "BODY_SECONDS", 0.2)
    refused = await door.ask("POST", f"{PATH}/j1", {"Content-Length": "50"}, b"{")
    assert (refused.status, "did not arrive" in refused.detail) == (408, True)


async def test_an_idle_connection_is_kept_for_the_senders_next_message(door: FrontDoor) -> None:
    reader, writer = await door.connect()
    for _ in range(2):
        writer.write(GET)
        assert (await answer(reader)).status == 200
        await asyncio.sleep(2 * PATIENCE)
    assert door.connections.cut_off == 0
    writer.close()


async def test_an_idle_connection_is_closed_in_the_end() -> None:
    async with front_door(HubSettings(listen=Listen(keepalive_seconds=0.2))) as door:
        reader, writer = await door.connect()
        writer.write(GET)
        assert (await answer(reader)).status == 200
        assert await end(reader) == b""
        writer.close()


@asynccontextmanager
async def streaming() -> AsyncIterator[tuple[Connections, int, asyncio.Event]]:
    """A server whose `/big` is more than any buffer holds, and whose `/stream` stays open until the event is set."""
    over = asyncio.Event()

    async def big(_: web.Request) -> web.Response:
        return web.Response(body=bytes(16 << 20))

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await over.wait()
        await response.write(b"last")
        return response

    app = web.Application()
    app.add_routes([web.get("/big", big), web.get("/stream", stream)])
    sock = listening_socket("127.0.0.1:0", {})
    async with served(app, sock, IMPATIENT, on_turned_away=lambda: None, stop_seconds=1) as connections:
        yield connections, sock.getsockname()[1], over


async def test_who_does_not_take_an_answer_is_cut_off() -> None:
    async with streaming() as (connections, port, _):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(request("GET", "/big"))
            async with asyncio.timeout(20):
                while not connections.count:
                    await asyncio.sleep(PATIENCE / 10)
                while connections.count:
                    await asyncio.sleep(PATIENCE / 10)
            assert connections.cut_off == 1


async def test_who_takes_an_answer_slowly_is_waited_for() -> None:
    async with streaming() as (connections, port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 18)
        writer.write(request("GET", "/big"))
        taken = 0
        for _ in range(20):
            taken += len(await reader.read(1 << 19))
            await asyncio.sleep(PATIENCE / 5)
        assert connections.cut_off == 0
        assert taken < 16 << 20
        writer.close()


async def test_a_stream_that_stays_open_is_never_cut_off() -> None:
    async with streaming() as (connections, port, over):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("GET", "/stream"))
        await reader.readuntil(b"first")
        await asyncio.sleep(3 * PATIENCE)
        over.set()
        await reader.readuntil(b"last")
        assert connections.cut_off == 0
        writer.close()


@pytest.mark.parametrize(
    ("bytes_sent", "status", "fragment"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "HTTPS"),
        (b"hello\r\n\r\n", 400, "this is not an HTTP request"),
        (b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "this is not an HTTP request: Invalid method encountered"),
        (b'{"job_id":"j1"}\n', 400, "this is not an HTTP request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "this is not an HTTP request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Host"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400, "Content-Length"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "not an HTTP"),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "4096"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000 + b"\r\n\r\n", 431, "8192"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431, "64"),
    ],
)
async def test_what_is_no_request_gets_a_problem(
    door: FrontDoor, bytes_sent: bytes, status: int, fragment: str
) -> None:
    answered = await door.say(bytes_sent)
    assert answered.status == status
    assert fragment in answered.detail
    assert answered.detail.isprintable()
    assert not answered.detail.endswith(":")


@pytest.mark.parametrize(
    "words", [request("GET", "/api/v1/openapi.json"), request("GET", "/"), request("GET", "/metrics"), b"hello\r\n\r\n"]
)
async def test_no_answer_tells_the_versions_of_what_the_hub_is_made_of(door: FrontDoor, words: bytes) -> None:
    assert (await door.say(words)).headers["server"] == "sha-daemon"


async def test_who_asks_for_nothing_that_is_there_is_told_where_to_look(door: FrontDoor) -> None:
    for path in ("/", "/api/v1/docs/"):
        answer = await door.ask("GET", path)
        assert (answer.status, answer.detail) == (404, "no such resource; /api/v1/docs lists those there are")


@pytest.mark.parametrize(
    ("bytes_sent", "status", "reason"),
    [
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "method"),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "method"),
        (request("OPTIONS", PATH), 405, "method"),
        (request("PUT", f"{PATH}/j1", {"Expect": "foo"}), 417, "malformed"),
        (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 400, "malformed"),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "too_large"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000 + b"\r\n\r\n", 431, "too_large"),
    ],
)
async def test_what_no_route_takes_is_a_problem_and_counted(
    door: FrontDoor, bytes_sent: bytes, status: int, reason: str
) -> None:
    answered = await door.say(bytes_sent)
    assert (answered.status, answered.detail.isprintable()) == (status, True)
    assert door.rejected == {("other", reason): 1}


async def test_a_sender_that_asks_first_whether_it_may_send_its_body_may(door: FrontDoor) -> None:
    reader, writer = await door.connect()
    body = b'{"status":"running"}'
    whole = request("POST", f"{PATH}/j1", {"Expect": "100-continue"}, body)
    writer.write(whole.removesuffix(body))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await answer(reader)).status == 204
    writer.close()


async def test_a_thousand_pipelined_requests_are_answered_in_turn(door: FrontDoor) -> None:
    reader, writer = await door.connect()
    writer.write(GET * 1000)
    for _ in range(1000):
        assert (await answer(reader)).status == 200
    writer.close()


async def test_a_gzipped_update_is_taken_and_a_damaged_one_is_told_what_is_wrong(door: FrontDoor) -> None:
    body, headers = gzip.compress(b'{"status":"running"}'), {"Content-Encoding": "gzip"}
    assert (await door.ask("POST", f"{PATH}/j1", headers, body)).status == 204
    refused = await door.ask("POST", f"{PATH}/j1", headers, body[:-1])
    assert (refused.status, "cut short" in refused.detail) == (400, True)
    refused = await door.ask("POST", f"{PATH}/j1", {"Content-Encoding": "br"}, body)
    assert (refused.status, refused.headers["accept-encoding"]) == (415, "gzip, deflate")


async def test_many_updates_may_come_gzipped_too(door: FrontDoor) -> None:
    body, headers = gzip.compress(b'{"updates":[{"job_id":"j1","status":"running"}]}'), {"Content-Encoding": "gzip"}
    taken = await door.ask("POST", "/api/v1/telemetry/batch", headers, body)
    assert (taken.status, taken.body) == (200, b'[{"job_id":"j1","status":204}]')
    assert (await door.ask("POST", "/api/v1/telemetry/batch", headers, body + b"x")).status == 400


async def test_a_damaged_body_still_counts_as_hearing_the_job(door: FrontDoor) -> None:
    assert (await door.ask("POST", f"{PATH}/j1", {"Content-Encoding": "gzip"}, b"x")).status == 400
    assert (await door.ask("POST", f"{PATH}/other", {}, b'{"status":"running"}')).status == 404
    assert b'"last_telemetry_at":null' not in (await door.ask("GET", f"{PATH}/j1")).body


async def test_the_rest_of_a_body_that_nobody_wants_is_not_awaited_for_ever(
    door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GET takes no body: it is answered at once, and its connection is closed some seconds later."""
    monkeypatch.setitem(LIMITS, "lingering_time", 0.2)
    reader, writer = await door.connect()
    writer.write(b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
    assert (await answer(reader)).status == 200
    assert await end(reader) == b""
    writer.close()
