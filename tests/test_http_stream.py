"""The stream over HTTP, on real sockets and a real MariaDB: its head, its pace, a thousand readers, its end."""

import asyncio
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from sha_daemon import http_stream
from sha_daemon.batch import Outcome
from sha_daemon.config import DatabaseSettings, HubSettings, Listen, Tls
from sha_daemon.edge import Edge
from sha_daemon.http_answers import answering
from sha_daemon.http_api import application
from sha_daemon.http_large_answers import AnswerRoom
from sha_daemon.job_types import BACKUP
from sha_daemon.records import Job
from sha_daemon.serving import listening_socket, served
from sha_daemon.silence import Thresholds
from sha_daemon.stream import Stream
from telemetry_common.clock import SystemClock
from testbed.mariadb import PrivateMariaDB
from testbed.memory_database import MemoryDatabase
from tests.support.certificates import authority, server
from tests.support.front_door import front_door, request
from tests.support.hub import running_hub
from tests.support.stream import STREAM, Ears, reading, until
from tests.support.world import PATH, World

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(mariadb_server: PrivateMariaDB, migrated_database: DatabaseSettings) -> AsyncIterator[World]:
    settings = HubSettings(listen=Listen(max_streams=3), database=migrated_database)
    async with running_hub(settings) as (hub, client):
        yield World(hub, client, mariadb_server, migrated_database.name)


async def test_a_reader_over_http_is_told_the_job_as_every_other_answer_shows_it(world: World) -> None:
    world.add("j1", disks=2)
    async with reading(world.client) as ears:
        await until(lambda: ears.names() == ["job", "ready"])
        await world.post("j1", {"status": "running", "bytes_transferred": 5, "disks": [{"disk_index": 1}]})
        await until(lambda: len(ears.told) == 3)
        told, (_, asked) = ears.told[-1].data, await world.get("/api/v1/telemetry/backup/j1")
        moving = {"seconds_since_heard", "silence_seconds"}
        assert {k: v for k, v in told.items() if k not in moving} == {k: v for k, v in asked.items() if k not in moving}
        assert set(told) == set(asked)


async def test_another_programs_changes_are_told(world: World) -> None:
    for job_id in ("j1", "j2"):
        world.add(job_id, disks=1)
    async with reading(world.client) as ears:
        await until(lambda: "ready" in ears.names())
        world.sql("UPDATE backup_jobs SET status = 'cancelled' WHERE id = 'j1'")
        await until(lambda: ("j1", "cancelled") in ears.jobs("status"))
        world.sql("UPDATE backup_disks SET bytes_transferred = 9 WHERE backup_job_id = 'j2'")
        await until(lambda: ears.jobs("disks")[-1][1][0]["bytes_transferred"] == 9)
        world.add("j3", "pending")
        await until(lambda: ("j3", "pending") in ears.jobs("status"))
        world.sql("DELETE FROM backup_jobs WHERE id = 'j3'")
        await until(lambda: ears.names()[-1] == "gone")
        assert len(ears.told) == 3 + 4


async def test_the_head_of_the_answer_is_one_that_no_cache_keeps_and_no_proxy_holds_back(world: World) -> None:
    async with world.client.get(STREAM) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert (answer.headers["Cache-Control"], answer.headers["X-Accel-Buffering"]) == ("no-store", "no")
        assert (await answer.content.readline()).startswith(b"retry: ")
    async with world.client.head(STREAM) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("?job_id=nobody", 404, "no backup job 'nobody'"),
        ("?job_id=j1&job_type=tape", 404, "unknown job type 'tape'"),
        ("?job_type=backup", 400, "`job_type` needs a `job_id`"),
        ("?jobid=j1", 400, "jobid"),
        ("?job_id=", 404, "no backup job ''"),
        (f"?job_id={'x' * 300}", 404, "no backup job"),
        ("?job_id=%ED%A0%80", 404, "no backup job"),
    ],
)
async def test_what_cannot_be_followed_is_a_problem(world: World, query: str, status: int, detail: str) -> None:
    async with world.client.get(STREAM + query) as answer:
        content = await answer.json(content_type="application/problem+json")
        assert (answer.status, content["status"]) == (status, status)
        assert detail in content["detail"]


async def test_beyond_its_places_the_hub_says_503_and_when_to_come_again(world: World) -> None:
    async with reading(world.client), reading(world.client), reading(world.client) as last:
        async with world.client.get(STREAM) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        await until(lambda: "ready" in last.names())
    await until(lambda: world.hub.stream.subscribers.places == 0)
    async with reading(world.client) as ears:
        await until(lambda: "ready" in ears.names())


async def test_a_reader_of_http_1_0_gets_the_events_and_no_chunks(world: World) -> None:
    world.add("j1")
    reader, writer = await asyncio.open_connection("127.0.0.1", world.client.port)
    writer.write(f"GET {STREAM}?job_id=j1 HTTP/1.0\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    ears = Ears()
    ears.feed(await reader.readuntil(b'event: ready\ndata: {"jobs":1}\n\n'))
    await world.post("j1", {"status": "running", "bytes_transferred": 5})
    ears.feed(await reader.readuntil(b"event: job\ndata: "))
    ears.feed(await reader.readuntil(b"\n\n"))
    assert ears.jobs() == [("j1", 0), ("j1", 5)]
    writer.close()


@asynccontextmanager
async def small_stream(max_streams: int = 2000) -> AsyncIterator[tuple[Stream, MemoryDatabase, int]]:
    """A stream with a short ring over HTTP, on the in-memory twin with the jobs j0 to j99; its port."""
    clock = SystemClock()
    database = MemoryDatabase(clock)
    for n in range(100):
        database.add_job(Job(job_id=f"j{n}", status="running"))
    stream = Stream({BACKUP: database}, clock, lambda: 0, Thresholds(60, 300), max_streams, ring_bytes=1 << 20)
    app = web.Application()
    app.add_routes(answering(http_stream.routes(stream), AnswerRoom()))
    app.on_shutdown.append(http_stream.ending(stream))
    sock = listening_socket("127.0.0.1:0", {})
    port: int = sock.getsockname()[1]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for _, work in stream.tasks()]
        async with served(app, sock, Listen(), on_turned_away=lambda: None, stop_seconds=30):
            yield stream, database, port
        for task in tasks:
            task.cancel()


async def connected(port: int, buffer_bytes: int | None = None) -> socket.socket:
    """It has asked for the stream; its receive buffer may be small."""
    sock = socket.socket()
    sock.setblocking(False)
    if buffer_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    await asyncio.get_running_loop().sock_sendall(sock, f"GET {STREAM} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return sock


async def raw_reader(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A reader that has been given what comes first."""
    reader, writer = await asyncio.open_connection(sock=await connected(port), limit=1 << 20)
    await reader.readuntil(b"event: ready")
    return reader, writer


def everything_moves(stream: Stream, moved: int) -> None:
    jobs = [Job(job_id=f"j{n}", status="running", bytes_transferred=moved) for n in range(100)]
    stream.committed(BACKUP, [Outcome(result="applied", job=job) for job in jobs])


async def test_a_reader_that_does_not_read_is_dropped_and_one_that_does_gets_everything() -> None:
    async with small_stream() as (stream, _, port):
        slow = await connected(port, 4096)
        text = b""
        while b"event: ready" not in text:
            text += await asyncio.get_running_loop().sock_recv(slow, 65536)
        quick, writer = await raw_reader(port)
        rounds = 0
        while stream.subscribers.dropped == 0:
            rounds += 1
            everything_moves(stream, rounds)
            for _ in range(100):
                await quick.readuntil(b"event: job")
        everything_moves(stream, 10**9)
        await quick.readuntil(b'"bytes_transferred":1000000000')
        await until(lambda: stream.subscribers.places == 1)
        writer.close()
        slow.close()


@contextmanager
def many_files(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_thousand_readers_are_told_of_a_change_in_a_moment() -> None:
    with many_files(4096):
        async with small_stream() as (stream, _, port):
            readers = []
            for _ in range(20):
                readers += await asyncio.gather(*(raw_reader(port) for _ in range(50)))
            assert stream.subscribers.places == 1000
            began = time.monotonic()
            everything_moves(stream, 7)
            await asyncio.gather(*(reader.readuntil(b'"job_id":"j99"') for reader, _ in readers))
            took = time.monotonic() - began
            assert took < 5, "benchmarks/stream_fanout.py measures it; here it must only not be absurd"
            for _, writer in readers:
                writer.close()
            await until(lambda: stream.subscribers.places == 0)


async def test_a_stream_over_tls_stays_open_however_quiet_it_is(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    pair = server(tmp_path, ca)
    settings = HubSettings(
        listen=Listen(patience_seconds=0.2, keepalive_seconds=0.2),
        tls=Tls(certificate=str(pair.certificate), key=str(pair.key)),
    )
    trusting = ssl.create_default_context(cafile=str(ca.certificate))
    async with front_door(settings) as door:
        reader, writer = await door.connect(trusting)
        writer.write(request("GET", STREAM))
        await reader.readuntil(b"event: ready")
        await asyncio.sleep(0.8)
        _, sender = await door.connect(trusting)
        sender.write(request("POST", f"{PATH}/j1", body=b'{"status": "running", "bytes_transferred": 77}'))
        async with asyncio.timeout(10):
            await reader.readuntil(b'"bytes_transferred":77')
        for each in (writer, sender):
            each.close()


async def test_readers_do_not_hold_up_a_hub_that_stops(migrated_database: DatabaseSettings) -> None:
    settings = HubSettings(database=migrated_database)
    async with running_hub(settings) as (hub, _):
        sock = listening_socket("127.0.0.1:0", {})
        port = sock.getsockname()[1]
        app = application(hub, Edge(settings).gate)
        async with served(app, sock, settings.listen, on_turned_away=lambda: None, stop_seconds=60):
            reader, writer = await raw_reader(port)
            began = time.monotonic()
        assert time.monotonic() - began < 10
        assert (await reader.read()).endswith(b"0\r\n\r\n")
        writer.close()
