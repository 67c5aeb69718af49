"""What tests share: one private MariaDB server for all of them, and a fresh database for each."""

import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sha_daemon import migrations
from sha_daemon.config import DatabaseSettings, HubSettings, Listen
from sha_daemon.mariadb import connect
from testbed.mariadb import PrivateMariaDB
from tests.support.databases import InMemory, OnMariaDB, Prepared
from tests.support.hub import running_hub
from tests.support.world import World


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
    link = connect(empty_database, daemon=False)
    migrations.apply(link, empty_database.name, migrations.known())
    link.close()
    return empty_database


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
