"""`make bench-watchdog`: what a sweep for silent jobs costs, beside a bare SELECT of the same rows.

python -m benchmarks.bench_watchdog [--quick]
"""

import asyncio
import gc
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import Finding, below, tell
from benchmarks.stage import SERVER_DEFAULTS, database
from sha_daemon.app import Hub
from sha_daemon.config import HubSettings
from sha_daemon.main import GARBAGE_THRESHOLD
from sha_daemon.mariadb import Link, MariaDB, connect
from sha_daemon.watchdog import StaleWatchdog
from telemetry_common.clock import SystemClock
from telemetry_common.lifecycle import Lifecycle
from testbed.mariadb import PrivateMariaDB

RUNNING = 10_000
FINISHED = (10_000, 100_000, 990_000)
BARE = (
    "SELECT id, telemetry_heard_us FROM backup_jobs FORCE INDEX (idx_telemetry_silence) WHERE status = 'running'"
    " ORDER BY telemetry_heard_us"
)
"""The reference: what any sweep would have to read of the running jobs, by the same driver."""
UNPURGED = 100
"""Transactions whose leavings in the indexes do not matter; in service there are never many."""
READING_US = 10**12
"""Of the listening clock; silence is counted back from it."""


class Quiet:
    """No service manager."""

    def notify(self, state: str) -> None:
        return


class Stage:
    """A hub's watchdog on a database with running jobs, their rows scattered among finished ones."""

    def __init__(self, server: PrivateMariaDB, finished: int) -> None:
        self.rows = finished + RUNNING
        settings = database(server, 1, f"bench_{self.rows}")
        self.link = connect(settings, daemon=False, patient=True)
        self.link.execute(f"USE `{settings.name}`")
        _fill(self.link, finished)
        hub = HubSettings(database=settings)
        self.hub = Hub(hub, SystemClock(), lambda kind, _: MariaDB(settings, kind), Lifecycle(Quiet(), SystemClock()))

    @property
    def watchdog(self) -> StaleWatchdog:
        return self.hub.parts["backup"].watchdog

    def heard(self, seconds_ago: float) -> None:
        """All running jobs, the last time; and the server has swept up behind that."""
        self.link.execute("UPDATE telemetry_listening SET listened_us = %s", READING_US)
        at = READING_US - int(seconds_ago * 1e6)
        self.link.execute("UPDATE backup_jobs SET telemetry_heard_us = %s WHERE status = 'running'", at)
        while int(self.link.rows("SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'")[0][1]) > UNPURGED:
            time.sleep(0.1)

    async def sweep(self) -> float:
        """Milliseconds."""
        begun = time.perf_counter()
        await self.watchdog.sweep()
        return (time.perf_counter() - begun) * 1e3

    def bare(self) -> float:
        """Milliseconds of the reference."""
        begun = time.perf_counter()
        rows = self.link.rows(BARE)
        took = (time.perf_counter() - begun) * 1e3
        if len(rows) != RUNNING:
            sys.exit(f"{len(rows)} jobs are running, not {RUNNING}; the figures of this run mean nothing")
        return took

    async def close(self) -> None:
        await self.hub.close()
        self.link.close()


def _fill(link: Link, finished: int) -> None:
    every = finished // RUNNING + 1
    link.execute("DELETE FROM backup_jobs")
    link.execute(
        "INSERT INTO backup_jobs (id, vm_name, backup_type, status, started_at, completed_at, last_telemetry_at,"
        " telemetry_heard_us) SELECT CONCAT('backup-vm', LPAD(seq, 7, '0'), '-1760000000'), 'vm', 'full',"
        f" IF(seq MOD {every}, 'completed', 'running'), NOW(), IF(seq MOD {every}, NOW(), NULL), UTC_TIMESTAMP(), seq"
        f" FROM seq_1_to_{RUNNING * every}"
    )
    link.execute("ANALYZE TABLE backup_jobs")


async def usual(stages: list[Stage], state: str, seconds_ago: float, rounds: int) -> list[Finding]:
    """Sweeps that find nothing new: all sizes and the reference in turn, so that a busy moment meets each of them."""
    for stage in stages:
        stage.heard(seconds_ago)
        await stage.sweep()
    found = [[(await stage.sweep(), stage.bare()) for stage in stages] for _ in range(rounds)]
    medians = [[statistics.median(figures) for figures in zip(*each, strict=True)] for each in zip(*found, strict=True)]
    findings, fewest = [], medians[0][0]
    for stage, (sweep, bare) in zip(stages, medians, strict=True):
        what = f"{stage.rows:,} rows, {state}"
        findings.append(below(what, sweep, "ms", f"a bare SELECT of the {RUNNING:,} running", bare, most=1.5))
        findings.append(Finding(what=what, value=sweep, unit="ms", reach="under 50 ms", reached=sweep < 50))
        if stage is not stages[0]:
            findings.append(below(what, sweep, "ms", f"with {stages[0].rows:,} rows", fewest, most=1.5))
    return findings


async def unusual(stage: Stage) -> list[Finding]:
    """All at once fall silent, are lost: each is said in the journal, each verdict is a transaction of its own."""
    findings = []
    for what, seconds in (("all fall silent in one sweep", 121), ("all are lost in one sweep", 400)):
        stage.heard(seconds_ago=seconds)
        findings.append(Finding(what=f"{stage.rows:,} rows, {what}", value=await stage.sweep(), unit="ms"))
    if stage.watchdog.failed != RUNNING:
        sys.exit(f"{stage.watchdog.failed} jobs were failed, not {RUNNING}; the figures of this run mean nothing")
    return findings


async def measured(server: PrivateMariaDB, rounds: int) -> list[Finding]:
    print(f"bench-watchdog: {RUNNING:,} running jobs in tables of {FINISHED} others", file=sys.stderr, flush=True)
    stages = [Stage(server, finished) for finished in FINISHED]
    try:
        quiet = await usual(stages, "nobody silent", 5, rounds)
        return quiet + await usual(stages, "all silent", 120, rounds) + await unusual(stages[-1])
    finally:
        for stage in stages:
            await stage.close()


def main() -> None:
    logging.disable(logging.CRITICAL)
    gc.set_threshold(GARBAGE_THRESHOLD)
    rounds = 7 if "--quick" in sys.argv[1:] else 25
    with (
        tempfile.TemporaryDirectory(prefix="telemetry-bench-") as place,
        PrivateMariaDB(Path(place), *SERVER_DEFAULTS) as server,
    ):
        tell("watchdog", asyncio.run(measured(server, rounds)))


if __name__ == "__main__":
    main()
