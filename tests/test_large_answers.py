"""Readers that ask for much and take nothing: what waits for them is bounded, and nobody else waits for them."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from sha_daemon.http_large_answers import PIECE_BYTES, ROOM_BYTES, AnswerRoom
from sha_daemon.records import Job
from sha_daemon.replies import Problem
from tests.support.front_door import PATH, FrontDoor, answer, front_door, request
from tests.support.memory import resident_bytes

JOBS = 1000
PAGE = f"{PATH}?limit={JOBS}"
READERS, ASKED = 80, 2
"""So many connections, each of which asks so often, without waiting: 90 MB in all."""
MAX_GROWTH_BYTES = ROOM_BYTES + (16 << 20)


def many_jobs(door: FrontDoor) -> None:
    for number in range(JOBS):
        door.database.add_job(Job(job_id=f"job-{number}", status="failed", error_message="e" * 100))


@contextmanager
def deaf_readers(port: int) -> Iterator[None]:
    """They ask, and never read; their own buffers are as small as the system allows."""
    with ExitStack() as stack:
        for _ in range(READERS):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            sock.connect(("127.0.0.1", port))
            sock.sendall(request("GET", PAGE) * ASKED)
        yield


async def until_full(door: FrontDoor) -> None:
    async with asyncio.timeout(60):
        while (await door.ask("GET", PAGE)).status != 503:
            await asyncio.sleep(0.05)


async def test_what_waits_for_readers_that_do_not_read_is_bounded_and_small_answers_go_out() -> None:
    async with front_door() as door:
        many_jobs(door)
        page = await door.ask("GET", PAGE)
        assert len(page.body) * READERS > ROOM_BYTES
        before = resident_bytes("self")
        with deaf_readers(door.port):
            await until_full(door)
            refused = await door.ask("GET", PAGE)
            assert refused.headers["retry-after"] == "5"
            assert "large answers" in refused.detail
            assert (await door.ask("GET", f"{PATH}?limit=5")).status == 200
            assert (await door.ask("POST", f"{PATH}/j1", {}, b'{"status":"running"}')).status == 204
            assert resident_bytes("self") - before < MAX_GROWTH_BYTES
        async with asyncio.timeout(20):
            while door.connections.count:
                await asyncio.sleep(0.05)
        assert (await door.ask("GET", PAGE)).body == page.body


async def test_a_large_answer_comes_whole_and_leaves_its_connection_usable() -> None:
    async with front_door() as door:
        many_jobs(door)
        reader, writer = await door.connect()
        for _ in range(2):
            writer.write(request("GET", PAGE) + request("HEAD", PAGE) + request("GET", f"{PATH}/j1"))
            page = await answer(reader)
            assert len(page.body) > 4 * PIECE_BYTES
            assert page.body.endswith(b"}")
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"200 OK" in head
            assert (await answer(reader)).status == 200
        writer.close()


def test_room_that_was_held_is_given_back() -> None:
    room = AnswerRoom(most_bytes=10)
    with room.held(4), room.held(6):
        with pytest.raises(Problem) as refused, room.held(1):
            pass
        assert (refused.value.status, refused.value.reason) == (503, "large_answers")
    with room.held(10):
        pass
