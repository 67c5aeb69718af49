"""A MariaDB server that a test may kill, starve of rights or reconfigure: never the one that all tests share."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sha_daemon.config import DatabaseSettings, HubSettings
from telemetry_common.settings import shown
from testbed.mariadb import PrivateMariaDB
from testbed.processes import clean_environment, installed
from tests.support.live_hub import LIVE_HUB, Hub
from tests.support.stage import eventually

NAME = "hub"


class Command(subprocess.Popen[str]):
    """`shactl` as a process of its own."""

    def end(self) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of the whole run."""
        out, err = self.communicate(timeout=60)
        return self.returncode, out, err


class Machine:
    """A server with one database, and `shactl` beside it."""

    def __init__(self, server: PrivateMariaDB) -> None:
        self.server = server
        self.settings = DatabaseSettings(name=NAME, user=server.user, socket=str(server.socket), timeout_seconds=10)
        self._config = server.directory / "hub.toml"
        self._config.write_text(shown(HubSettings(database=self.settings)))

    def live_hub(self) -> None:
        """An appliance's tables, with their data of one time, and nothing of telemetry."""
        self.server.new_database(NAME)
        with self.hub() as hub:
            hub.link.execute("SET SESSION timestamp = 1759716000")
            hub.run(LIVE_HUB.read_text())

    @contextmanager
    def hub(self) -> Iterator[Hub]:
        hub = Hub(self.settings)
        try:
            yield hub
        finally:
            hub.link.close()

    @contextmanager
    def held(self, statement: str) -> Iterator[None]:
        """Another program's transaction, left open within the block; it may end with the server."""
        connection = self.server.connect(NAME)
        try:
            connection.begin()
            connection.cursor().execute(statement)
            yield
        finally:
            connection.close()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with self.server.connect(NAME) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def begin(self, *words: str) -> Command:
        return Command(
            [installed("shactl"), "--config", str(self._config), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )

    def shactl(self, *words: str) -> tuple[int, str, str]:
        return self.begin(*words).end()

    def wait_for(self, statement: str) -> None:
        """Until the server is at this statement."""
        now = "SELECT info FROM information_schema.processlist"
        eventually(lambda: (statement,) in self.sql(now))
