"""The job as the hub has it: over the hub's HTTP API as any reader sees it, and in MariaDB's rows."""

import http.client
from pathlib import Path
from urllib.parse import quote

import msgspec
from msgspec import Struct

from testbed.mariadb import PrivateMariaDB

READ_SECONDS = 2.0


class DiskNow(Struct, frozen=True):
    disk_index: int
    status: str
    bytes_transferred: int
    total_bytes: int
    progress_percent: float


class JobNow(Struct, frozen=True):
    """What `GET /api/v1/telemetry/backup/{job_id}` says; other fields are of no interest here."""

    job_id: str
    status: str
    bytes_transferred: int
    total_bytes: int
    progress_percent: float
    disks: tuple[DiskNow, ...]
    current_phase: str | None = None
    vm_name: str | None = None
    transfer_speed_bps: int | None = None
    eta_seconds: int | None = None
    error_message: str | None = None
    seconds_since_heard: float | None = None


class HubReader:
    def __init__(self, address: str) -> None:
        self._address = address
        self._decoder = msgspec.json.Decoder(JobNow)

    def job(self, job_id: str) -> JobNow | None:
        """The job as it is now; None while the hub does not answer, or does not know it."""
        connection = http.client.HTTPConnection(self._address, timeout=READ_SECONDS)
        try:
            connection.request("GET", f"/api/v1/telemetry/backup/{quote(job_id, safe='')}")
            answer = connection.getresponse()
            body = answer.read()
            return self._decoder.decode(body) if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


class Row(Struct, frozen=True):
    """One row of `backup_jobs` (`disk_index` is None) or of `backup_disks`."""

    disk_index: int | None
    status: str
    percent: float
    bytes_transferred: int


def rows(server: PrivateMariaDB, database: str, job_id: str) -> tuple[Row, list[Row]]:
    """The job's row and its disks' rows, read from MariaDB itself."""
    with server.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT status, progress_percent, bytes_transferred FROM backup_jobs WHERE id = %s", (job_id,))
        status, percent, count = cursor.fetchone() or ("absent", 0, 0)
        cursor.execute(
            "SELECT disk_index, status, progress_percent, bytes_transferred FROM backup_disks "
            "WHERE backup_job_id = %s ORDER BY disk_index",
            (job_id,),
        )
        disks = [Row(index, state, float(share), moved) for index, state, share, moved in cursor.fetchall()]
    return Row(None, status, float(percent), count), disks


def size_of(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths)
