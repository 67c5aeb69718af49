"""Both daemons as real processes on a real database, and what a test sees of them: the fixtures `hub` and `sidecar`."""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from demo.hub_view import HubReader, JobNow, Row, rows
from sbc_daemon.config import SidecarSettings
from sha_daemon.config import DatabaseSettings, HubSettings
from testbed.installation import command, hub_settings, hub_url, sidecar_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import Daemon

T = TypeVar("T")


def eventually(look: Callable[[], T | None], seconds: float = 30.0) -> T:
    """What `look` returns once it is true; an AssertionError when it does not become true in time."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)
    return found


class RealHub(Daemon):
    """`sha-daemon`, what a reader sees over its HTTP API, and its rows."""

    def __init__(self, directory: Path, settings: HubSettings, server: PrivateMariaDB) -> None:
        super().__init__("sha-daemon", directory, settings)
        self.url = hub_url(settings)
        self.reader = HubReader(settings.listen.address)
        self._database = settings.database.name
        self._server = server

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def create_job(self, job_id: str, disks: int = 0) -> None:
        command(
            "shactl", "--config", str(self.config_file), "job", "create", job_id, "--vm", "vm", "--disks", str(disks)
        )

    def wait_for(self, job_id: str, status: str, seconds: float = 30.0) -> JobNow:
        """The job, once the hub shows it with this status."""

        def found() -> JobNow | None:
            job = self.reader.job(job_id)
            return job if job is not None and job.status == status else None

        return eventually(found, seconds)

    def disk_statuses(self, job_id: str) -> list[str]:
        job = self.reader.job(job_id)
        return [disk.status for disk in job.disks] if job is not None else []

    def phases(self, job_id: str) -> list[str]:
        """Those that the history has of the job, in order."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=5)
        connection.request("GET", f"/api/v1/telemetry/backup/{job_id}/history")
        body = connection.getresponse().read()
        connection.close()
        return [sample["current_phase"] for sample in json.loads(body)["samples"]]

    def rows(self, job_id: str) -> tuple[Row, list[Row]]:
        return rows(self._server, self._database, job_id)


class RealSidecar(Daemon):
    """`sbc-daemon` and its socket."""

    def __init__(self, directory: Path, settings: SidecarSettings) -> None:
        super().__init__("sbc-daemon", directory, settings)
        self.socket = settings.socket.path

    def say(self, data: bytes) -> None:
        """Write, and hang up without reading."""
        with socket.socket(socket.AF_UNIX) as producer:
            producer.connect(self.socket)
            producer.sendall(data)

    def ask(self, **line: object) -> dict[str, Any]:
        """Write one line that wants an answer, and wait for it."""
        with socket.socket(socket.AF_UNIX) as producer:
            producer.settimeout(20)
            producer.connect(self.socket)
            producer.sendall(json.dumps({"ack": 1} | line).encode() + b"\n")
            answer: dict[str, Any] = json.loads(producer.makefile().readline())
            return answer


@pytest.fixture
def hub(migrated_database: DatabaseSettings, mariadb_server: PrivateMariaDB, tmp_path: Path) -> Iterator[RealHub]:
    with RealHub(tmp_path, hub_settings(migrated_database), mariadb_server) as running:
        yield running


@pytest.fixture
def sidecar(hub: RealHub, tmp_path: Path) -> Iterator[RealSidecar]:
    with RealSidecar(tmp_path, sidecar_settings(tmp_path, hub.url)) as running:
        yield running
