"""How soon all jobs are up to date after the hub's return: real daemons, a MariaDB that syncs every commit.

    python -m benchmarks.bench_drain

Each job changes its state four times while the hub is away. Counted from the hub's READY=1, so the search for it is in.
"""

import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.load import job_name
from benchmarks.report import Finding, tell
from benchmarks.stage import SERVER_DEFAULTS, database
from testbed.installation import hub_settings, hub_url, sidecar_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import Daemon

PHASES = ("snapshot", "transferring", "finalizing", "completed")
RUNS = {1_000: 3, 10_000: 1}
"""Jobs, and how often."""
REACH_SECONDS = 10.0
AWAY_SECONDS = 5.0
"""Until the probes of the sidecar are at their slowest."""
PATIENCE_SECONDS = 120.0


def main() -> None:
    findings: list[Finding] = []
    for jobs, runs in RUNS.items():
        seconds = statistics.median(_run(jobs) for _ in range(runs))
        findings.append(
            Finding(
                what=f"after the hub's return: {jobs:,} jobs with {len(PHASES)} states each up to date",
                value=seconds,
                unit="s",
                reach=f"within {REACH_SECONDS:g} s",
                reached=seconds <= REACH_SECONDS,
            )
        )
    tell("drain", findings)


def _run(jobs: int) -> float:
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-") as name:
        directory = Path(name)
        with PrivateMariaDB(directory, *SERVER_DEFAULTS) as server:
            settings = hub_settings(database(server, jobs))
            with _sidecar(directory, hub_url(settings), jobs):
                time.sleep(AWAY_SECONDS)
                with Daemon("sha-daemon", directory, settings):
                    return _seconds_until_all_completed(server, settings.database.name, jobs)


@contextmanager
def _sidecar(directory: Path, url: str, jobs: int) -> Iterator[None]:
    """With every job's states in its outbox."""
    config = sidecar_settings(directory, url)
    with Daemon("sbc-daemon", directory, config), socket.socket(socket.AF_UNIX) as producer:
        producer.connect(config.socket.path)
        answers = producer.makefile("rb")
        for place, phase in enumerate(PHASES):
            for number in range(jobs):
                line = _line(job_name(number), place, phase) | ({"ack": place} if number == jobs - 1 else {})
                producer.sendall(json.dumps(line).encode() + b"\n")
            if not json.loads(answers.readline())["ok"]:
                sys.exit("the sidecar could not keep the backlog; the figures of this run would mean nothing")
        yield


def _line(job_id: str, place: int, phase: str) -> dict[str, Any]:
    moved = (place + 1) * 1_000_000
    return {
        "job_id": job_id,
        "status": "completed" if phase == "completed" else "running",
        "current_phase": phase,
        "disks": [{"disk_index": disk, "bytes_transferred": moved, "total_bytes": 4_000_000} for disk in (0, 1)],
    }


def _seconds_until_all_completed(server: PrivateMariaDB, name: str, jobs: int) -> float:
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE_SECONDS:
        with server.connect(name) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM backup_jobs WHERE status = 'completed'")
            if cursor.fetchone() == (jobs,):
                return time.monotonic() - started
        time.sleep(0.05)
    sys.exit(f"not all jobs were up to date within {PATIENCE_SECONDS:g} s")


if __name__ == "__main__":
    main()
