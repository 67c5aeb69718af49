"""Stopped, reloaded and restarted while a few hundred senders report: nothing accepted is lost, nobody is refused."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from sha_daemon.config import DatabaseSettings, HubSettings, Service
from sha_daemon.serving import BACKLOG
from testbed.installation import hub_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import Daemon
from tests.support.crowd_load import Load
from tests.support.databases import OnMariaDB
from tests.support.standing_still import standing_still

pytestmark = pytest.mark.integration

SENDERS = 300
STOP_SECONDS = 3.0
LATEST_SECONDS = STOP_SECONDS + 10
"""systemd kills it after that."""
TOLD = {"connected", "204", "503"}
NOT_TOLD = {"closed without an answer", "reset without an answer"}
"""What may become of a request that was not accepted, where its sender was too slow to be told. It comes again."""


@pytest.fixture
def settings(migrated_database: DatabaseSettings) -> HubSettings:
    return structs.replace(hub_settings(migrated_database), service=Service(stop_seconds=STOP_SECONDS))


@pytest.fixture
def load(settings: HubSettings) -> Load:
    return Load(int(settings.listen.address.rpartition(":")[2]), SENDERS)


@pytest.fixture
def stored(settings: HubSettings) -> Iterator[Callable[[], dict[str, int]]]:
    """The stored `seq` of each sender's job."""
    tables = OnMariaDB(settings.database)
    tables.execute(
        "INSERT INTO backup_jobs (id, vm_name, backup_type, status)"
        f" SELECT CONCAT('job-', LPAD(seq, 3, '0')), 'vm', 'full', 'running' FROM seq_0_to_{SENDERS - 1}"
    )
    yield lambda: dict(tables.rows("SELECT id, COALESCE(telemetry_seq, 0) FROM backup_jobs"))
    tables.close()


@pytest.fixture
def hub(settings: HubSettings, tmp_path: Path) -> Iterator[Daemon]:
    with Daemon("sha-daemon", tmp_path, settings) as running:
        yield running


async def test_a_hub_that_is_stopped_answers_all_that_it_has_accepted(
    hub: Daemon, load: Load, stored: Callable[[], dict[str, int]]
) -> None:
    async with load.on():
        await load.answers(3000)
        begun = time.monotonic()
        assert await asyncio.to_thread(hub.stop) == 0
        assert time.monotonic() - begun < LATEST_SECONDS
        await load.outcome("connection refused")
    assert TOLD <= set(load.outcomes) <= TOLD | NOT_TOLD | {"connection refused"}
    assert load.answered == stored(), "all that was accepted was answered"


async def test_a_hub_that_is_stopped_while_its_database_stands_still_goes_within_its_deadline(
    hub: Daemon, load: Load, stored: Callable[[], dict[str, int]], mariadb_server: PrivateMariaDB
) -> None:
    async with load.on():
        await load.answers(1000)
        with standing_still(mariadb_server):
            begun = time.monotonic()
            assert await asyncio.to_thread(hub.stop) == 0
            assert time.monotonic() - begun < LATEST_SECONDS
    assert "stopping with updates unanswered; their senders keep them" in hub.log()
    assert all(0 <= seq - load.answered[job_id] <= 1 for job_id, seq in stored().items())


async def test_reloading_under_load_costs_nobody_anything(
    hub: Daemon, load: Load, stored: Callable[[], dict[str, int]]
) -> None:
    async with load.on():
        for _ in range(10):
            await load.answers(200)
            await asyncio.to_thread(hub.reload)
        await load.answers(200)
    assert (set(load.outcomes), load.outcomes["connected"]) == ({"connected", "204"}, SENDERS)
    assert all(0 <= seq - load.answered[job_id] <= 1 for job_id, seq in stored().items())


async def test_restarting_behind_the_socket_of_systemd_refuses_nobody_and_loses_nothing(
    settings: HubSettings, tmp_path: Path, load: Load, stored: Callable[[], dict[str, int]]
) -> None:
    """The hub is started by a thread that outlives it: a child dies with the thread that started it."""
    with bound(settings) as sock, Daemon("sha-daemon", tmp_path, settings, sockets={"sha-daemon.socket": sock}) as hub:
        async with load.on():
            for _ in range(3):
                await load.answers(1500)
                await asyncio.to_thread(hub.restart)
            await load.answers(1500)
        assert TOLD <= set(load.outcomes) <= TOLD | NOT_TOLD, "no connection was refused"
        assert hub.stop() == 0
    assert all(0 <= seq - load.answered[job_id] <= 1 for job_id, seq in stored().items())


@contextmanager
def bound(settings: HubSettings) -> Iterator[socket.socket]:
    """The socket as sha-daemon.socket would have it."""
    host, port = settings.listen.address.split(":")
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
        sock.listen(BACKLOG)
        yield sock
