"""What becomes of a job on the hub is seen where it runs: `sbcctl status` beside both daemons as real processes."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sbc_daemon.config import CadenceSettings
from sbc_daemon.sbcctl import NEEDS_A_LOOK
from sha_daemon.config import DatabaseSettings
from testbed.installation import sidecar_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import clean_environment, installed
from tests.support.stage import RealHub, RealSidecar, eventually, hub

pytestmark = pytest.mark.integration
__all__ = ["hub"]
JOB = "backup-1"


@pytest.fixture
def sidecar(hub: RealHub, tmp_path: Path) -> Iterator[RealSidecar]:
    settings = sidecar_settings(tmp_path, hub.url, CadenceSettings(interval_seconds=0.3))
    with RealSidecar(tmp_path, settings) as running:
        yield running


def sbcctl(sidecar: RealSidecar, *words: str) -> subprocess.CompletedProcess[str]:
    command = [installed("sbcctl"), *words, "--config", str(sidecar.config_file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20, env=clean_environment())


def test_a_job_that_is_cancelled_on_the_hub_catches_the_eye_where_it_runs(
    hub: RealHub, sidecar: RealSidecar, mariadb_server: PrivateMariaDB, migrated_database: DatabaseSettings
) -> None:
    hub.create_job(JOB)
    with socket.socket(socket.AF_UNIX) as producer:
        producer.connect(sidecar.socket)
        producer.sendall(b'{"job_id":"%s","attach":true,"bytes_transferred":1}\n' % JOB.encode())
        hub.wait_for(JOB, "running")
        with mariadb_server.connect(migrated_database.name) as gui, gui.cursor() as cursor:
            cursor.execute("UPDATE backup_jobs SET status = 'cancelled', completed_at = UTC_TIMESTAMP()")
            gui.commit()
        cancelled_at = time.monotonic()

        def seen() -> dict[str, Any] | None:
            job: dict[str, Any] = json.loads(sbcctl(sidecar, "status", "--json").stdout)["jobs"][0]
            return job if job["hub_status"] == "cancelled" else None

        job = eventually(seen)
        assert time.monotonic() - cancelled_at < 5.0
        assert job["status"] == "running"
        assert len(job["pids"]) == 1
        shown = sbcctl(sidecar, "status")
    assert shown.returncode == NEEDS_A_LOOK
    assert f"{JOB} is cancelled on the hub" in shown.stdout.splitlines()[0]
