"""The answer that is written in one piece, on a real socket: right for each version of HTTP and each way to hang up."""

import asyncio
import re

import pytest

from tests.support.world import PATH, World

pytestmark = pytest.mark.integration

BODY = b'{"status":"running","seq":7}'


async def exchange(world: World, version: str, *more: str) -> tuple[bytes, bool]:
    """One post over a connection of its own: what came back, and whether the hub then hung up."""
    reader, writer = await asyncio.open_connection(world.client.host, world.client.port)
    head = [f"POST {PATH}/j1 HTTP/{version}", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines = [*head, f"Content-Length: {len(BODY)}", *more, "", ""]
    writer.write("\r\n".join(lines).encode() + BODY)
    answer = await reader.readuntil(b"\r\n\r\n")
    try:
        async with asyncio.timeout(0.2):
            hung_up = await reader.read(1) == b""
    except TimeoutError:
        hung_up = False
    writer.close()
    return answer, hung_up


@pytest.mark.parametrize(
    ("version", "more", "hangs_up"),
    [
        ("1.1", (), False),
        ("1.1", ("Connection: close",), True),
        ("1.0", (), True),
        ("1.0", ("Connection: keep-alive",), True),
    ],
)
async def test_it_says_all_that_a_204_must_say(
    world: World, version: str, more: tuple[str, ...], hangs_up: bool
) -> None:
    world.add("j1")
    answer, hung_up = await exchange(world, version, *more)
    status, *headers = answer.decode().rstrip().split("\r\n")
    assert status == "HTTP/1.1 204 No Content"
    said = dict(header.split(": ", 1) for header in headers)
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", said.pop("Date"))
    assert said.pop("Connection", "") == ("close" if hangs_up else "")
    assert said == {"Telemetry-Seq": "7", "Telemetry-Status": "running"}
    assert hung_up == hangs_up


async def test_answers_to_requests_that_came_in_one_piece_keep_their_order(world: World) -> None:
    world.add("j1")
    reader, writer = await asyncio.open_connection(world.client.host, world.client.port)
    for seq in range(1, 20):
        body = f'{{"status":"running","seq":{seq}}}'
        writer.write(
            f"POST {PATH}/j1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
    seqs = [re.search(rb"Telemetry-Seq: (\d+)", await reader.readuntil(b"\r\n\r\n")) for _ in range(1, 20)]
    assert [int(found[1]) for found in seqs if found] == list(range(1, 20))
    writer.close()
