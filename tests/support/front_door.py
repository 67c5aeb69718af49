"""The hub behind its real front door: gate, connections, TLS, routes on a loopback socket; its database in memory."""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web

from sha_daemon.app import Hub
from sha_daemon.config import HubSettings
from sha_daemon.connections import Connections
from sha_daemon.edge import Edge
from sha_daemon.http_answers import REJECTED
from sha_daemon.http_api import application
from sha_daemon.records import Job
from sha_daemon.serving import listening_socket, served
from telemetry_common.clock import SystemClock
from telemetry_common.lifecycle import Lifecycle
from testbed.memory_database import MemoryDatabase
from tests.support.described import Judge
from tests.support.hub import Heard, Shared

PATH = "/api/v1/telemetry/backup"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def detail(self) -> str:
        """Of a problem; it must be one."""
        assert self.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = json.loads(self.body)
        assert set(problem) == {"type", "title", "status", "detail"}
        assert problem["status"] == self.status
        return str(problem["detail"])


class FrontDoor:
    """What a client sees of the hub, byte by byte."""

    def __init__(
        self, app: web.Application, edge: Edge, connections: Connections, port: int, database: MemoryDatabase
    ) -> None:
        self._app = app
        self.database = database
        self.edge = edge
        self.connections = connections
        self.port = port

    @property
    def rejected(self) -> Counter[tuple[str, str]]:
        """How many requests were refused, by method and reason."""
        return self._app[REJECTED]

    @property
    def routes(self) -> Iterator[tuple[str, str]]:
        """Method and path of each, without HEAD (a GET) and what takes all that is no route."""
        for route in self._app.router.routes():
            if route.method not in ("HEAD", "*") and route.resource is not None:
                yield route.method, route.resource.canonical

    async def connect(
        self, tls: ssl.SSLContext | None = None, buffer: int = 1 << 16
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=tls, limit=buffer)

    async def say(self, request: bytes) -> Answer:
        """The answer to these bytes, on a connection of its own."""
        reader, writer = await self.connect()
        writer.write(request)
        try:
            return await answer(reader)
        finally:
            writer.close()

    async def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        return await self.say(request(method, path, headers, body))


def request(method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    named = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in (named | dict(headers or {})).items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def answer(reader: asyncio.StreamReader) -> Answer:
    """The next one; fails the test if none comes."""
    async with asyncio.timeout(20):
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {key.lower(): value for key, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, body)


async def end(reader: asyncio.StreamReader, seconds: float = 20.0) -> bytes:
    """What is left until the hub closes the connection, also by a reset; fails the test if it does not."""
    async with asyncio.timeout(seconds):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@asynccontextmanager
async def front_door(settings: HubSettings | None = None) -> AsyncIterator[FrontDoor]:
    """A hub that knows the running job `j1`. Whatever address the settings have, it is on a free port of loopback.

    Its answers are held against its description.
    """
    settings, clock = settings or HubSettings(), SystemClock()
    database = MemoryDatabase(clock)
    database.add_job(Job(job_id="j1", status="running"))
    hub = Hub(settings, clock, lambda kind, purpose: Shared(database), Lifecycle(Heard(), clock))
    edge = Edge(settings)
    sock = listening_socket("127.0.0.1:0", {})
    app, judge = application(hub, edge.gate), Judge()
    judge.watch(app)
    async with (
        hub.running(ping_seconds=5.0),
        served(
            app,
            sock,
            settings.listen,
            certificate=edge.certificate,
            on_turned_away=hub.turned_away,
            stop_seconds=1,
        ) as connections,
    ):
        hub.accepting(True)
        yield FrontDoor(app, edge, connections, sock.getsockname()[1], database)
        assert judge.complaints == []
