"""The real hub's pings: they stop when a part of it is stuck, and go on when only the database is missing."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs

from sha_daemon.config import Access, DatabaseSettings, HubSettings, Watchdog
from sha_daemon.tokens import line
from testbed.installation import hub_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import Daemon
from tests.support.databases import OnMariaDB
from tests.support.front_door import request
from tests.support.slow_database import slow_database
from tests.support.standing_still import standing_still
from tests.support.watchdog_scene import Scene

PING_SECONDS = 0.5
TIMEOUT_SECONDS = 0.5
LATE_SECONDS = 2 * TIMEOUT_SECONDS + 2 + PING_SECONDS
"""After so long without a turn a writer is late."""
STUCK = "part is stuck; no watchdog ping until it moves"
KNOWN = line("reader", "read", "sbt_read")
PARTS = {
    "listening": b"LAST_INSERT_ID(listened_us",
    "health": b"listened_us = listened_us WHERE",
    "backup sweep": b"FORCE INDEX (idx_telemetry_silence)",
    "backup writer": b"SELECT JSON_ARRAY(j.id",
}
"""What each part says to the database, and no other does."""


@pytest.fixture
def settings(migrated_database: DatabaseSettings) -> HubSettings:
    """A hub of little patience that sweeps all the time."""
    impatient = structs.replace(migrated_database, timeout_seconds=TIMEOUT_SECONDS)
    return hub_settings(impatient, Watchdog(interval_seconds=0.3))


@asynccontextmanager
async def pinging(directory: Path, settings: HubSettings) -> AsyncIterator[Daemon]:
    """Started beside the event loop, which may have to answer it: by a thread that outlives it."""
    hub = Daemon("sha-daemon", directory, settings, {"WATCHDOG_USEC": str(int(3 * PING_SECONDS * 1e6))})
    try:
        await asyncio.to_thread(hub.start)
        assert await asyncio.to_thread(hub.manager.wait_for_pings, 2, 10)
        yield hub
    finally:
        await asyncio.to_thread(hub.close)


async def new_pings(hub: Daemon, seconds: float) -> int:
    """How many come within so long."""
    before = hub.manager.pings
    await asyncio.sleep(seconds)
    return hub.manager.pings - before


async def pings_go_on(hub: Daemon) -> None:
    """Also when a part that made no turn since now would be late."""
    await asyncio.sleep(LATE_SECONDS + PING_SECONDS)
    assert await asyncio.to_thread(hub.manager.wait_for_pings, hub.manager.pings + 2, 10)


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not look():
            await asyncio.sleep(0.05)


async def post(settings: HubSettings) -> asyncio.StreamWriter:
    """An update of job-1 to whose answer nobody listens."""
    host, port = settings.listen.address.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(request("POST", "/api/v1/telemetry/backup/job-1", body=b'{"status": "running"}'))
    return writer


async def gets_stuck_and_moves_again(part: str, settings: HubSettings, directory: Path) -> None:
    place = directory / f"{part.replace(' ', '-')}.sock"
    database = structs.replace(settings.database, socket=str(place))
    own = structs.replace(hub_settings(database), watchdog=settings.watchdog)
    place.with_suffix("").mkdir()
    async with (
        slow_database(Path(settings.database.socket), place) as slow,
        pinging(place.with_suffix(""), own) as hub,
    ):
        slow.make_endless(PARTS[part])
        sender = await post(own)
        await slow.met.wait()
        await until(lambda: f"{STUCK} part={part}" in hub.log().replace('"', ""))
        assert await new_pings(hub, 3 * PING_SECONDS) == 0
        slow.cut_off()
        await until(lambda: "part moves again" in hub.log())
        assert await asyncio.to_thread(hub.manager.wait_for_pings, hub.manager.pings + 3, 10)
        sender.close()


@pytest.mark.integration
async def test_a_part_that_is_stuck_in_the_database_stops_the_pings_until_it_moves(
    settings: HubSettings, tmp_path: Path
) -> None:
    async with asyncio.TaskGroup() as group:
        for part in PARTS:
            group.create_task(gets_stuck_and_moves_again(part, settings, tmp_path), name=part)


@pytest.mark.integration
async def test_an_event_loop_that_is_held_up_sends_no_pings(settings: HubSettings, tmp_path: Path) -> None:
    """By a file that it reads at a reload: one that nobody writes."""
    tokens = tmp_path / "tokens"
    tokens.write_text(KNOWN)
    guarded = structs.replace(settings, access=Access(tokens_file=str(tokens)))
    async with pinging(tmp_path, guarded) as hub:
        assert hub.pid is not None
        tokens.unlink()
        os.mkfifo(tokens)
        os.kill(hub.pid, signal.SIGHUP)
        assert await asyncio.to_thread(hub.manager.wait_for, "RELOADING", 10)
        assert await new_pings(hub, 4 * PING_SECONDS) == 0
        tokens.write_text(KNOWN)
        assert await asyncio.to_thread(hub.manager.wait_for_pings, hub.manager.pings + 3, 10)
        assert "the daemon stood still seconds=" in hub.log()
        assert STUCK not in hub.log(), "no part is to blame"


@pytest.mark.integration
async def test_a_database_that_is_missing_stops_no_ping(
    settings: HubSettings, tmp_path: Path, mariadb_server: PrivateMariaDB
) -> None:
    """A restart would not cure it: neither a server that stands still, nor rows that somebody keeps."""
    tables = OnMariaDB(settings.database)
    tables.execute(
        "INSERT INTO backup_jobs (id, vm_name, backup_type, status) VALUES ('job-1', 'vm', 'full', 'running')"
    )
    async with pinging(tmp_path, settings) as hub:
        senders = [await post(settings)]
        with standing_still(mariadb_server):
            senders.append(await post(settings))
            await pings_go_on(hub)
            await until(lambda: hub.status.startswith("database unreachable since "))
        tables.execute("BEGIN")
        tables.rows("SELECT * FROM backup_jobs FOR UPDATE")
        senders.append(await post(settings))
        await pings_go_on(hub)
        tables.execute("ROLLBACK")
        assert STUCK not in hub.log()
        for sender in senders:
            sender.close()
    tables.close()


def test_a_part_that_dies_takes_the_hub_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """systemd starts it again; nothing limps on without its watchdog."""
    error = ValueError("a fault of our own")

    async def story(scene: Scene) -> None:
        async with scene.hub():
            await asyncio.sleep(10)
            scene.database.away(error)
            await asyncio.sleep(60)
            pytest.fail("it lives on")

    with pytest.raises(ExceptionGroup) as died:
        Scene(caplog).play(story)
    assert error in died.value.exceptions
