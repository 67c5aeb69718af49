"""A hub on a real MariaDB as a sender sees it, and its database as an administrator does."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sha_daemon.app import Hub
from testbed.mariadb import PrivateMariaDB
from tests.support.hub import Client

PATH = "/api/v1/telemetry/backup"


class World:
    """The hub as a sender sees it, and its database as an administrator does."""

    def __init__(self, hub: Hub, client: Client, server: PrivateMariaDB, database: str) -> None:
        self.hub = hub
        self.client = client
        self._server = server
        self._database = database

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._server.connect(self._database) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    @contextmanager
    def transaction(self, statement: str) -> Iterator[None]:
        """What another program does to the tables, left open within the block."""
        with self._server.connect(self._database) as connection, connection.cursor() as cursor:
            connection.begin()
            cursor.execute(statement)
            yield
            connection.rollback()

    def add(self, job_id: str, status: str = "running", disks: int = 0) -> str:
        self.sql(
            "INSERT INTO backup_jobs (id, vm_name, backup_type, status) VALUES (%s, 'pg', 'full', %s)", job_id, status
        )
        for index in range(disks):
            self.sql("INSERT INTO backup_disks (backup_job_id, disk_index) VALUES (%s, %s)", job_id, index)
        return job_id

    def stored(self, job_id: str, columns: str) -> tuple[Any, ...]:
        return self.sql(f"SELECT {columns} FROM backup_jobs WHERE id = %s", job_id)[0]

    async def post(self, job_id: str, body: object) -> tuple[int, dict[str, str], Any]:
        kind: dict[str, Any] = (
            {"data": io.BytesIO(body), "headers": {"Content-Type": "application/json"}}
            if isinstance(body, bytes)
            else {"json": body}
        )
        async with self.client.post(f"{PATH}/{job_id}", **kind) as answer:
            content = await answer.json(content_type=None) if answer.status != 204 else await answer.read()
            return answer.status, dict(answer.headers), content

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.client.get(path) as answer:
            return answer.status, await answer.json(content_type=None)
