"""Every answer that is described can be provoked: the list of statuses promises nothing that never comes.

That none comes which is not described is asserted for every answer of every test, by `running_hub`.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sha_daemon import http_bodies
from sha_daemon.app import Hub
from sha_daemon.config import Access, DatabaseSettings, HubSettings
from sha_daemon.openapi_common import ANYWHERE, GUARDED
from sha_daemon.openapi_reading import EVENTS
from sha_daemon.tokens import line
from telemetry_common.contract import MAX_BODY_BYTES
from tests.support.databases import OnMariaDB, running
from tests.support.described import errors, operations
from tests.support.front_door import FrontDoor, front_door
from tests.support.hub import Client, running_hub

pytestmark = pytest.mark.integration

PATH = "/api/v1/telemetry/backup"
BATCH = "/api/v1/telemetry/batch"
JSON = {"Content-Type": "application/json"}
PLAIN = {"Content-Type": "text/plain"}
GOOD = b'{"status":"running","seq":1}'
TOO_MUCH = b" " * MAX_BODY_BYTES + GOOD


@dataclass
class World:
    hub: Hub
    client: Client
    tables: OnMariaDB

    async def post(self, path: str, body: bytes = GOOD, headers: dict[str, str] = JSON) -> int:
        async with self.client.post(path, data=body, headers=headers) as answer:
            return answer.status

    async def get(self, path: str) -> int:
        async with self.client.get(path) as answer:
            await answer.read()
            return answer.status

    @asynccontextmanager
    async def without_tables(self) -> AsyncIterator[None]:
        self.tables.execute("RENAME TABLE backup_jobs TO elsewhere")
        await self.hub.health.look()
        yield
        self.tables.execute("RENAME TABLE elsewhere TO backup_jobs")
        await self.hub.health.look()

    @asynccontextmanager
    async def poisoned(self) -> AsyncIterator[None]:
        self.tables.execute(
            "CREATE TRIGGER poison BEFORE UPDATE ON backup_jobs FOR EACH ROW"
            " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'"
        )
        yield
        self.tables.execute("DROP TRIGGER poison")


@pytest.fixture
async def world(migrated_database: DatabaseSettings) -> AsyncIterator[World]:
    tables = OnMariaDB(migrated_database)
    tables.add_job(running("j1"))
    async with running_hub(HubSettings(database=migrated_database)) as (hub, client):
        yield World(hub, client, tables)
    await tables.database.close()
    tables.close()


async def slow_body(world: World, path: str) -> int:
    async def drops() -> AsyncIterator[bytes]:
        yield b'{"status":'
        await asyncio.sleep(60)

    async with world.client.post(path, data=drops(), headers=JSON) as answer:
        return answer.status


async def follow(world: World) -> int:
    async with world.client.get("/api/v1/telemetry/stream") as answer:
        told = await answer.content.readuntil(b"event: ready\n") + await answer.content.readline()
        events = re.findall(r"event: (\w+)\ndata: (.*)", told.decode())
        assert [(name, errors(dict(EVENTS[name]), json.loads(data))) for name, data in events] == [
            ("job", []),
            ("ready", []),
        ]
        return answer.status


async def while_poisoned(world: World) -> int:
    async with world.poisoned():
        return await world.post(f"{PATH}/j1", b'{"status":"running","bytes_transferred":1}')


async def report_without_tables(world: World) -> int:
    async with world.without_tables():
        return await world.post(f"{PATH}/j1")


async def health_without_tables(world: World) -> int:
    async with world.without_tables():
        return await world.get("/api/v1/health")


PROVOKED: dict[tuple[str, int], Callable[[World], Awaitable[int]]] = {
    ("report", 204): lambda world: world.post(f"{PATH}/j1"),
    ("report", 400): lambda world: world.post(f"{PATH}/j1", b"{}"),
    ("report", 404): lambda world: world.post(f"{PATH}/unknown"),
    ("report", 408): lambda world: slow_body(world, f"{PATH}/j1"),
    ("report", 413): lambda world: world.post(f"{PATH}/j1", TOO_MUCH),
    ("report", 415): lambda world: world.post(f"{PATH}/j1", headers=PLAIN),
    ("report", 500): while_poisoned,
    ("report_many", 200): lambda world: world.post(BATCH, b'{"updates":[{"job_id":"j1","status":"running"}]}'),
    ("report_many", 400): lambda world: world.post(BATCH, b"{}"),
    ("report_many", 408): lambda world: slow_body(world, BATCH),
    ("report_many", 413): lambda world: world.post(BATCH, TOO_MUCH),
    ("report_many", 415): lambda world: world.post(BATCH, headers=PLAIN),
    ("report_without_id", 400): lambda world: world.post(PATH),
    ("report_with_empty_id", 400): lambda world: world.post(f"{PATH}/"),
    ("jobs", 200): lambda world: world.get(PATH),
    ("jobs", 400): lambda world: world.get(f"{PATH}?limit=0"),
    ("jobs", 404): lambda world: world.get("/api/v1/telemetry/restore"),
    ("job", 200): lambda world: world.get(f"{PATH}/j1"),
    ("job", 400): lambda world: world.get(f"{PATH}/j1?x=1"),
    ("stream", 200): follow,
    ("stream", 400): lambda world: world.get("/api/v1/telemetry/stream?job_type=backup"),
    ("stream", 404): lambda world: world.get("/api/v1/telemetry/stream?job_id=unknown"),
    ("history", 200): lambda world: world.get(f"{PATH}/j1/history"),
    ("history", 400): lambda world: world.get(f"{PATH}/j1/history?points=1"),
    ("history", 404): lambda world: world.get(f"{PATH}/unknown/history"),
    ("job", 404): lambda world: world.get(f"{PATH}/unknown"),
    ("health", 200): lambda world: world.get("/api/v1/health"),
    ("metrics", 200): lambda world: world.get("/metrics"),
    ("openapi", 200): lambda world: world.get("/api/v1/openapi.json"),
    ("docs", 200): lambda world: world.get("/api/v1/docs"),
    ("report", 503): report_without_tables,
    ("health", 503): health_without_tables,
}


def test_there_is_a_way_to_each_answer_that_is_described() -> None:
    """What any request can meet is provoked at one of them."""
    described = {
        (operation["operationId"], int(status))
        for operation in operations().values()
        for status in operation["responses"]
    }
    anywhere = {(name, status) for name, status in described if status in ANYWHERE or status in GUARDED}
    assert described - anywhere <= PROVOKED.keys() <= described


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_each_of_them_comes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_bodies, "BODY_SECONDS", 0.2)
    assert [(*case, await provoke(world)) for case, provoke in PROVOKED.items()] == [
        (name, status, status) for name, status in PROVOKED
    ]


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[FrontDoor]:
    tokens = tmp_path / "tokens"
    tokens.write_text("\n".join(line(right, right, right) for right in ("report", "read")))
    async with front_door(HubSettings(access=Access(tokens_file=str(tokens)))) as opened:
        yield opened


async def test_every_operation_can_give_the_answers_of_the_gate_that_it_is_described_with(door: FrontDoor) -> None:
    for (method, path), operation in operations().items():
        place = path.replace("{job_type}", "backup").replace("{job_id}", "j1")
        assert (await door.ask(method, place, {"Host": "evil.example"})).status == 421
        rights = [right for scheme in operation["security"] for right in scheme.get("bearer", [])]
        for right in rights:
            other = "read" if right == "report" else "report"
            assert (await door.ask(method, place)).status == 401
            assert (await door.ask(method, place, {"Authorization": f"Bearer {other}"})).status == 403
        assert (
            {"401", "403"} <= operation["responses"].keys() if rights else not {"401"} & operation["responses"].keys()
        )


async def test_what_any_request_can_meet_is_met(door: FrontDoor) -> None:
    requests = {
        400: b"hello?\r\n\r\n",
        417: b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: x\r\n\r\n",
        414: b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n",
        431: b"GET / HTTP/1.1\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
    }
    for status, request in requests.items():
        answer = await door.say(request)
        assert answer.detail
        assert answer.status == status
    elsewhere = {status for _, status in PROVOKED} | {421}
    assert ANYWHERE.keys() <= requests.keys() | elsewhere
