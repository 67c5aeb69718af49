"""Other programs on the hub's tables while it works: one that only looks, and one that gets in the way."""

import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import pymysql

from testbed.mariadb import PrivateMariaDB

CANCELS = 5
FINAL = ("completed", "failed", "cancelled")


class _Bystander:
    """Does its thing on a thread and a connection of its own until the block ends; its own error is raised then."""

    def __init__(self, server: PrivateMariaDB, database: str) -> None:
        self._connection = server.connect(database)
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._connection.close()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            with self._connection.cursor() as cursor:
                while not self._over.wait(0.01):
                    self.turn(cursor.execute, cursor.fetchall)
        except BaseException as error:
            self._error = error

    def turn(self, execute: Callable[..., int], rows: Callable[[], Any]) -> None:
        raise NotImplementedError


class Watcher(_Bystander):
    """Sees each job again and again, and what went backwards between two looks."""

    def __init__(self, server: PrivateMariaDB, database: str) -> None:
        super().__init__(server, database)
        self.backwards: list[str] = []
        self.looks = 0
        self._seen: dict[str, tuple[Any, ...]] = {}

    def turn(self, execute: Callable[..., int], rows: Callable[[], Any]) -> None:
        execute("SELECT id, bytes_transferred, COALESCE(telemetry_seq, 0), progress_percent, status FROM backup_jobs")
        self.looks += 1
        jobs = list(rows())
        execute("SELECT CONCAT(backup_job_id, ' disk ', disk_index), bytes_transferred, 0, 0, status FROM backup_disks")
        for key, *figures in [*jobs, *rows()]:
            before = self._seen.get(key)
            if before is not None and went_back(before, tuple(figures)):
                self.backwards.append(f"{key}: {before} became {figures}")
            self._seen[key] = tuple(figures)


def went_back(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    """Bytes, number or percent fell, or an end was undone."""
    return any(new < old for old, new in zip(before[:3], after[:3], strict=True)) or (
        before[3] in FINAL and after[3] != before[3]
    )


class Meddler(_Bystander):
    """Holds rows for a moment, in an order of its own, writes disks as an engine does, and cancels some jobs.

    `longest_seconds` is for how long it held them at most: a busy machine may let it stand in the middle.
    """

    def __init__(self, server: PrivateMariaDB, database: str, jobs: list[str], seed: int) -> None:
        super().__init__(server, database)
        self.cancelled: set[str] = set()
        self.longest_seconds = 0.0
        self._jobs = jobs
        self._random = random.Random(seed)

    def turn(self, execute: Callable[..., int], rows: Callable[[], Any]) -> None:
        some, begun = self._random.sample(self._jobs, 3), time.monotonic()
        try:
            self._meddle(execute, some)
        except pymysql.OperationalError as error:
            if error.args[0] not in (1205, 1213):
                raise
            self._connection.rollback()
        self.longest_seconds = max(self.longest_seconds, time.monotonic() - begun)

    def _meddle(self, execute: Callable[..., int], jobs: list[str]) -> None:
        self._connection.begin()
        execute("UPDATE backup_disks SET disk_index = disk_index WHERE backup_job_id = %s", (jobs[0],))
        for job in jobs:
            execute("SELECT 1 FROM backup_jobs WHERE id = %s FOR UPDATE", (job,))
        self._over.wait(self._random.random() * 0.04)
        cancels = len(self.cancelled) < CANCELS and execute(
            "UPDATE backup_jobs SET status = 'cancelled' WHERE id = %s AND status = 'running'", (jobs[-1],)
        )
        self._connection.commit()
        if cancels:
            self.cancelled.add(jobs[-1])
