"""A hub on a real database, its HTTP on a real loopback socket, within the test's own process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from sha_daemon.app import Hub, Purpose
from sha_daemon.config import HubSettings
from sha_daemon.database import Session
from sha_daemon.edge import Edge
from sha_daemon.http_api import application
from sha_daemon.http_connection import LIMITS
from sha_daemon.job_types import JobType
from sha_daemon.mariadb import MariaDB
from sha_daemon.mariadb_access import MariaAccess
from telemetry_common.clock import Clock, SystemClock
from telemetry_common.lifecycle import Lifecycle
from testbed.memory_database import MemoryDatabase
from tests.support.described import Judge

T = TypeVar("T")
Client = TestClient[Request, Application]


class Heard:
    """Keeps what systemd would have been told."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def notify(self, state: str) -> None:
        self.states.append(state)


@asynccontextmanager
async def running_hub(settings: HubSettings) -> AsyncIterator[tuple[Hub, Client]]:
    """Every answer is held against the hub's own description."""
    clock = SystemClock()
    access = MariaAccess(settings.database)
    hub = Hub(settings, clock, lambda kind, _: MariaDB(settings.database, kind, access), Lifecycle(Heard(), clock))
    app, judge = application(hub, Edge(settings).gate), Judge()
    judge.watch(app)
    server = TestServer(app)
    client = TestClient(server)
    try:
        async with hub.running(ping_seconds=1.0):
            await server.start_server(**LIMITS)
            hub.accepting(True)
            yield hub, client
            await client.close()
            assert judge.complaints == []
    finally:
        await hub.close()


@asynccontextmanager
async def virtual_hub(
    database: MemoryDatabase, clock: Clock, settings: HubSettings | None = None, write_seconds: float = 0.0
) -> AsyncIterator[Hub]:
    """A hub without a network on the in-memory twin, for the virtual clock. Leaving the block is its crash.

    `write_seconds` is what the database takes to begin a transaction of the writers.
    """

    def connect(kind: JobType, purpose: Purpose) -> Shared:
        return Shared(database, write_seconds if purpose == "write" else 0.0)

    hub = Hub(settings or HubSettings(), clock, connect, Lifecycle(Heard(), clock))
    hub.accepting(True)
    async with hub.running(ping_seconds=5.0):
        yield hub


class Shared:
    """One of a hub's connections to a database that outlives the hub."""

    def __init__(self, database: MemoryDatabase, slow_seconds: float = 0.0) -> None:
        self._database = database
        self._slow_seconds = slow_seconds

    async def run(self, work: Callable[[Session], T]) -> T:
        if self._slow_seconds:
            await asyncio.sleep(self._slow_seconds)
        return await self._database.run(work)

    async def close(self) -> None:
        """The hub closes its connection, not the database."""
