"""What tests share: one private MariaDB server for all of them, and a fresh database for each."""

import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec import structs

from sha_daemon import migrations
from sha_daemon.config import DatabaseSettings, HubSettings, Listen
from sha_daemon.mariadb import connect
from testbed.mariadb import PrivateMariaDB
from tests.support.cut_connections import cut_connections
from tests.support.databases import InMemory, OnMariaDB, Prepared
from tests.support.hub import running_hub
from tests.support.troubled import Troubled, TroubledTwin
from tests.support.troubled_mariadb import TroubledMariaDB
from tests.support.world import World


def migrate(settings: DatabaseSettings) -> None:
    link = connect(settings, daemon=False)
    migrations.apply(link, settings.name, migrations.known())
    link.close()


def pytest_configure() -> None:
    """A shell ignores these for what it starts in the background, nohup the last; every child would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[PrivateMariaDB]:
    """It does not wait for the disk: a killed server loses nothing by that, only a power cut would show it."""
    with (
        tempfile.TemporaryDirectory(prefix="telemetry-tests-") as directory,
        PrivateMariaDB(Path(directory), "--innodb-flush-method=nosync") as server,
    ):
        yield server


@pytest.fixture
def empty_database(mariadb_server: PrivateMariaDB) -> DatabaseSettings:
    """Settings that lead to a database of its own, without a table."""
    name = mariadb_server.new_database("telemetry_test")
    return DatabaseSettings(name=name, user=mariadb_server.user, socket=str(mariadb_server.socket), timeout_seconds=10)


@pytest.fixture
def migrated_database(empty_database: DatabaseSettings) -> DatabaseSettings:
    """Settings that lead to a database of its own, with all migrations applied."""
    migrate(empty_database)
    return empty_database


@pytest.fixture(scope="session")
def reused_database(mariadb_server: PrivateMariaDB) -> DatabaseSettings:
    """The same for many tests, one after the other, which are to leave it as they found it."""
    name = mariadb_server.new_database("telemetry_reused")
    settings = DatabaseSettings(name=name, user=mariadb_server.user, socket=str(mariadb_server.socket))
    migrate(settings)
    return settings


@pytest.fixture
async def world(mariadb_server: PrivateMariaDB, migrated_database: DatabaseSettings) -> AsyncIterator[World]:
    """A hub with a queue of 300 on a database of its own."""
    settings = HubSettings(listen=Listen(max_queue=300), database=migrated_database)
    async with running_hub(settings) as (hub, client):
        yield World(hub, client, mariadb_server, migrated_database.name)


@pytest.fixture(params=["mariadb", "memory"])
async def prepared(request: pytest.FixtureRequest) -> AsyncIterator[Prepared]:
    """Each implementation of `Database` in turn."""
    if request.param == "memory":
        yield InMemory()
        return
    settings: DatabaseSettings = request.getfixturevalue("migrated_database")
    on_mariadb = OnMariaDB(settings)
    yield on_mariadb
    await on_mariadb.database.close()
    on_mariadb.close()


@pytest.fixture(params=["mariadb", "memory"])
async def demanding(request: pytest.FixtureRequest) -> AsyncIterator[Prepared]:
    """Tables, like an appliance's, that take no disk without a backup context."""
    if request.param == "memory":
        yield InMemory(context_required=True)
        return
    on_mariadb = OnMariaDB(request.getfixturevalue("migrated_database"))
    on_mariadb.execute("ALTER TABLE backup_disks MODIFY vm_backup_context_id VARCHAR(64) NOT NULL")
    yield on_mariadb
    await on_mariadb.database.close()
    on_mariadb.close()


@pytest.fixture(params=["mariadb", "memory"])
async def troubled(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Troubled]:
    """Each implementation of `Database` in turn, with two connections and all that can go wrong."""
    if request.param == "memory":
        yield TroubledTwin()
        return
    server: PrivateMariaDB = request.getfixturevalue("mariadb_server")
    settings: DatabaseSettings = request.getfixturevalue("reused_database")
    place = tmp_path / "way.sock"
    async with cut_connections(server.socket, place) as way:
        on_mariadb = TroubledMariaDB(server, way, structs.replace(settings, socket=str(place)))
        yield on_mariadb
        await on_mariadb.end()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server waits for no row at all: what would fail after a second fails now."""
    monkeypatch.setattr("sha_daemon.statements.LOCK_WAIT_SECONDS", 0)
