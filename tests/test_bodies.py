"""Bodies that are slow to come: what they hold is bounded, and ordinary updates are taken beside them."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress

import pytest
from multidict import CIMultiDict

from sha_daemon.http_bodies import COUNTED_BYTES, FIRST_BYTES, ROOM_BYTES, BodyRoom, room_needed
from sha_daemon.replies import Problem
from tests.support.front_door import PATH, FrontDoor, answer, end, front_door, request
from tests.support.memory import resident_bytes

RUNNING = b'{"status":"running"}'
CHUNKED = f"POST {PATH}/j1 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
SENDERS, SENT = 300, 600_000
"""So many senders, each with so many bytes of its body sent: 180 MB in all."""
MAX_GROWTH_BYTES = 2 * ROOM_BYTES
"""The allocator leaves gaps between buffers that grow side by side."""


def announced(size: int) -> bytes:
    return request("POST", f"{PATH}/j1", {"Content-Length": str(size)})


@asynccontextmanager
async def stuck(door: FrontDoor, senders: int, head: bytes, sent: bytes) -> AsyncIterator[None]:
    """So many senders have said this much, and say no more. They keep no copy of it."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", door.port))) for _ in range(senders)]
        await asyncio.gather(*(say(sock, head, sent) for sock in sockets))
        yield


async def say(sock: socket.socket, *words: bytes) -> None:
    sock.setblocking(False)
    with suppress(ConnectionError):
        for word in words:
            await asyncio.get_running_loop().sock_sendall(sock, word)


@pytest.mark.parametrize(
    ("headers", "needed"),
    [
        ({}, 0),
        ({"Content-Length": "0"}, 0),
        ({"Content-Length": str(COUNTED_BYTES - 1)}, 0),
        ({"Content-Length": str(COUNTED_BYTES)}, COUNTED_BYTES),
        ({"Content-Length": "9" * 18}, FIRST_BYTES),
        ({"Transfer-Encoding": "chunked"}, FIRST_BYTES),
    ],
)
def test_a_small_body_needs_no_room_and_no_body_much_of_it_before_it_comes(
    headers: dict[str, str], needed: int
) -> None:
    assert room_needed(CIMultiDict(headers)) == needed


async def taken(sock: socket.socket, words: bytes) -> int:
    """How many of these bytes go out until the hub takes no more for a while."""
    sock.setblocking(False)
    sent = idle = 0
    while sent < len(words) and idle < 100:
        try:
            sent += sock.send(words[sent : sent + 65_536])
            idle = 0
        except BlockingIOError:
            idle += 1
        await asyncio.sleep(0)
    return sent


async def test_requests_behind_one_that_is_in_hand_are_not_read_in_advance() -> None:
    one = request("POST", f"{PATH}/j1", {}, RUNNING + b" " * 120_000)
    async with front_door() as door:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            sock.connect(("127.0.0.1", door.port))
            behind = one * 60
            sock.sendall(request("GET", f"{PATH.removesuffix('backup')}stream"))
            assert await taken(sock, behind) < len(behind) / 3


async def test_many_requests_with_bodies_may_come_without_waiting_for_their_answers() -> None:
    async with front_door() as door:
        reader, writer = await door.connect()
        writer.write(request("POST", f"{PATH}/j1", {}, RUNNING + b" " * 20_000) * 100)
        for _ in range(100):
            assert (await answer(reader)).status == 204
        writer.close()


@pytest.mark.parametrize("first", [b'2\r\n{"\r\n', b""], ids=["after a chunk", "at once"])
async def test_a_chunked_body_that_breaks_is_answered_at_once_and_only_once(first: bytes) -> None:
    async with front_door() as door:
        reader, writer = await door.connect()
        writer.write(CHUNKED + first)
        assert (await door.ask("GET", f"{PATH}/j1")).status == 200  # meanwhile the other one is in hand
        writer.write(b"zz\r\n")
        refused = await answer(reader)
        assert (refused.status, "Transfer-Encoding" in refused.detail) == (400, True)
        assert await end(reader) == b""
        assert door.rejected["POST", "malformed"] == 1
        writer.close()


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("Content-Encoding: gzip\r\nContent-Encoding: br", 415),
        ("Content-Encoding: gzip\r\nContent-Encoding: gzip", 415),
        ("Content-Encoding: gzip", 204),
        ("Transfer-Encoding: gzip, chunked", 400),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: CHUNKED\r\nContent-Encoding: gzip", 204),
    ],
)
async def test_a_body_is_in_one_coding_at_most(lines: str, status: int) -> None:
    body = gzip.compress(RUNNING)
    if "Transfer" in lines:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        lines += f"\r\nContent-Length: {len(body)}"
    head = f"POST {PATH}/j1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{lines}\r\n\r\n"
    async with front_door() as door:
        answered = await door.say(head.encode() + body)
        assert answered.status == status
        assert status < 400 or "Encoding" in answered.detail


def test_a_body_is_charged_as_it_grows_and_what_it_held_is_given_back() -> None:
    away: list[str] = []
    room = BodyRoom(lambda: away.append("somebody"), most_bytes=10)
    with room.place(4) as place, room.place(2):
        place.reach(8)
        place.reach(5)
        with pytest.raises(Problem) as refused:
            place.reach(9)
        assert (refused.value.status, refused.value.headers, away) == (503, {"Retry-After": "5"}, ["somebody"])
        with pytest.raises(Problem), room.place(1):
            pass
    with room.place(10):
        pass


async def test_bodies_that_do_not_end_fill_their_room_and_no_more() -> None:
    async with front_door() as door:
        before = resident_bytes("self")
        async with stuck(door, SENDERS, announced(SENT + 1), b" " * SENT):
            async with asyncio.timeout(20):
                while not door.rejected["POST", "large_bodies"]:
                    await asyncio.sleep(0.02)
            assert resident_bytes("self") - before < MAX_GROWTH_BYTES
            assert (await door.ask("POST", f"{PATH}/j1", {}, RUNNING)).status == 204
            assert (await door.ask("GET", f"{PATH}/j1")).status == 200


@pytest.mark.parametrize("head", [announced(1 << 20), CHUNKED], ids=["announced", "chunked"])
async def test_senders_that_send_nothing_keep_nobody_away(head: bytes) -> None:
    body = RUNNING + b" " * 100_000
    async with front_door() as door, stuck(door, 200, head, b""):
        assert (await door.ask("POST", f"{PATH}/j1", {}, body)).status == 204
