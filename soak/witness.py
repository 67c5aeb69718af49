"""Looks at the hub's rows all the while, through every death of the server, for anything that goes backwards."""

import threading
from contextlib import suppress
from typing import Any

import pymysql

from soak.conservation import JobRow, Sample
from testbed.mariadb import PrivateMariaDB

LOOK_SECONDS = 0.05
_FINAL = ("completed", "failed", "cancelled")
_JOBS = """SELECT id, bytes_transferred, COALESCE(telemetry_seq, 0), progress_percent, status, error_message
    FROM backup_jobs WHERE status <> 'pending'"""
_DISKS = """SELECT CONCAT(backup_job_id, ' disk ', disk_index), bytes_transferred, 0, progress_percent, status, NULL
    FROM backup_disks"""


class Witness(threading.Thread):
    """`wrong` is what was seen; `looks` how often it could look."""

    def __init__(self, server: PrivateMariaDB, database: str) -> None:
        super().__init__(name="witness", daemon=True)
        self.wrong: list[str] = []
        self.looks = 0
        self._server = server
        self._database = database
        self._over = threading.Event()
        self._seen: dict[str, tuple[Any, ...]] = {}

    def finish(self) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            with suppress(OSError, pymysql.Error), self._server.connect(self._database) as connection:
                while not self._over.wait(LOOK_SECONDS):
                    with connection.cursor() as cursor:
                        self._look(cursor)

    def _look(self, cursor: Any) -> None:
        for statement in (_JOBS, _DISKS):
            cursor.execute(statement)
            for key, *figures in cursor.fetchall():
                self._compare(key, tuple(figures))
        self.looks += 1

    def _compare(self, key: str, now: tuple[Any, ...]) -> None:
        before = self._seen.get(key)
        if before == now:
            return
        if before is not None and went_back(before, now):
            self.wrong.append(f"{key}: {before} became {now}")
        if now[4] and str(now[4]).startswith("Job stalled"):
            self.wrong.append(f"{key}: failed by the watchdog though its producer lived: {now}")
        self._seen[key] = now


def went_back(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    """Bytes, number or percent fell, or an end was undone."""
    fell = any(new < old for old, new in zip(before[:3], now[:3], strict=True))
    return fell or (before[3] in _FINAL and now[3] != before[3])


def rows(server: PrivateMariaDB, database: str) -> dict[str, JobRow]:
    with server.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT backup_job_id, status, bytes_transferred FROM backup_disks ORDER BY disk_index")
        disks: dict[str, list[tuple[str, int]]] = {}
        for job_id, *disk in cursor.fetchall():
            disks.setdefault(job_id, []).append((disk[0], disk[1]))
        cursor.execute(
            "SELECT id, status, bytes_transferred, progress_percent, error_message, telemetry_seq FROM backup_jobs"
        )
        return {
            job_id: JobRow(status, moved, float(percent), error, seq, tuple(disks.get(job_id, ())))
            for job_id, status, moved, percent, error, seq in cursor.fetchall()
        }


def samples(server: PrivateMariaDB, database: str) -> dict[str, list[Sample]]:
    """Of each job, in the order of their `seq`."""
    found: dict[str, list[Sample]] = {}
    with server.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT job_id, seq, status, current_phase, bytes_transferred, progress_percent"
            " FROM telemetry_history ORDER BY job_id, seq"
        )
        for job_id, seq, status, phase, moved, percent in cursor.fetchall():
            found.setdefault(job_id, []).append(Sample(seq, status, phase, moved, float(percent)))
    return found


def unfinished(server: PrivateMariaDB, database: str, job_ids: set[str]) -> int:
    """How many of these jobs have no end yet."""
    with server.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM backup_jobs WHERE status IN ('pending', 'running')")
        return len(job_ids & {job_id for (job_id,) in cursor.fetchall()})
