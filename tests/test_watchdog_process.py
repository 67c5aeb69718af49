"""The watchdog of the real hub on a real MariaDB, in seconds that really pass."""

import asyncio
import http.client
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from sha_daemon.config import DatabaseSettings, Watchdog
from testbed.installation import hub_settings
from testbed.mariadb import PrivateMariaDB
from tests.support.stage import RealHub
from tests.support.standing_still import standing_still

pytestmark = pytest.mark.integration

WARN_SECONDS, FAIL_SECONDS = 1.5, 4.0
CADENCE_SECONDS = 0.3
VERDICT = "job failed by the watchdog job="


@pytest.fixture
def hub(migrated_database: DatabaseSettings, mariadb_server: PrivateMariaDB, tmp_path: Path) -> Iterator[RealHub]:
    watchdog = Watchdog(interval_seconds=0.5, warn_seconds=WARN_SECONDS, fail_seconds=FAIL_SECONDS)
    with RealHub(tmp_path, hub_settings(migrated_database, watchdog), mariadb_server) as running:
        for job_id in ("live", "dead"):
            running.create_job(job_id)
        yield running


def say(hub: RealHub, job_id: str) -> int:
    """One message on a connection of its own; its answer's status."""
    connection = http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=2)
    try:
        body, kind = '{"status": "running"}', {"Content-Type": "application/json"}
        connection.request("POST", f"/api/v1/telemetry/backup/{job_id}", body, kind)
        return connection.getresponse().status
    finally:
        connection.close()


@asynccontextmanager
async def heard(hub: RealHub, *job_ids: str) -> AsyncIterator[None]:
    """These jobs report within the block, whether or not the hub answers."""

    async def report() -> None:
        while True:
            for job_id in job_ids:
                with suppress(OSError):
                    await asyncio.to_thread(say, hub, job_id)
            await asyncio.sleep(CADENCE_SECONDS)

    reporting = asyncio.create_task(report())
    try:
        yield
    finally:
        reporting.cancel()


async def seconds_until(look: Callable[[], bool]) -> float:
    begun = time.monotonic()
    async with asyncio.timeout(30):
        while not look():
            await asyncio.sleep(0.05)
    return time.monotonic() - begun


async def test_the_dead_are_warned_of_failed_and_revived_and_a_hub_that_stands_still_fails_nobody(hub: RealHub) -> None:
    async with heard(hub, "live"):
        assert await asyncio.to_thread(say, hub, "dead") == 204
        warned = await seconds_until(lambda: "job is silent job=dead" in hub.log())
        assert warned > WARN_SECONDS - 0.5
        failed = warned + await seconds_until(lambda: VERDICT in hub.log())
        assert failed > FAIL_SECONDS - 0.5
        job = hub.wait_for("dead", "failed")
        assert re.fullmatch(r"Job stalled - no telemetry for \ds \(SBC may have crashed\)", str(job.error_message))
        assert await asyncio.to_thread(say, hub, "dead") == 204
        assert hub.wait_for("dead", "running").error_message is None
        assert "job revived job=dead silent_seconds=" in hub.log()
    async with heard(hub, "live", "dead"):
        with standing_still(hub):
            await asyncio.sleep(1.5 * FAIL_SECONDS)
        await seconds_until(lambda: "the daemon stood still seconds=" in hub.log())
        await asyncio.sleep(1.5)
    assert hub.log().count(VERDICT) == 1, "the dead one, once"
    assert "job is silent job=live" not in hub.log()
