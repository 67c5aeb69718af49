"""Both implementations of `Database`, with the few words a test needs to prepare and look at rows."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from msgspec import structs

from sha_daemon.config import DatabaseSettings
from sha_daemon.database import Database, Session
from sha_daemon.mariadb import MariaDB, connect
from sha_daemon.records import Job
from sha_daemon.statements import session as session_statements
from telemetry_common.clock import SystemClock
from testbed.memory_database import MemoryDatabase

T = TypeVar("T")
Work = Callable[[Session], T]


class Prepared(Protocol):
    """A database under test."""

    @property
    def database(self) -> Database: ...

    def add_job(self, job: Job, created_at: int | None = None, vm_name: str = "vm") -> None:
        """A row as another program makes it: status, context, disks (index and context), start time."""

    def history(self, job_id: str) -> list[tuple[int | None, float, int]]:
        """(seq, time, bytes) of the job's samples, in the order they were added."""


class OnMariaDB:
    def __init__(self, settings: DatabaseSettings) -> None:
        self.database = MariaDB(settings)
        self._settings = settings
        self.link_anew()

    def link_anew(self) -> None:
        """Also after the server's end."""
        self._link = connect(self._settings, daemon=False)
        self.execute(f"USE `{self._settings.name}`")
        self.execute(session_statements(10)[0])

    def execute(self, statement: str, *values: object) -> None:
        self._link.execute(statement, *values)

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._link.rows(statement, *values)]

    def add_job(self, job: Job, created_at: int | None = None, vm_name: str = "vm") -> None:
        self.execute(
            "INSERT INTO backup_jobs (id, vm_name, backup_type, status, vm_backup_context_id, created_at, started_at)"
            " VALUES (%s, %s, 'full', %s, %s, COALESCE(FROM_UNIXTIME(%s), NOW()), FROM_UNIXTIME(%s))",
            *(job.job_id, vm_name, job.status, job.context_id, created_at, job.started_at),
        )
        for disk in job.disks:
            self.execute(
                "INSERT INTO backup_disks (backup_job_id, disk_index, vm_backup_context_id) VALUES (%s, %s, %s)",
                *(job.job_id, disk.disk_index, job.context_id),
            )

    def history(self, job_id: str) -> list[tuple[int | None, float, int]]:
        found = self.rows(
            "SELECT seq, UNIX_TIMESTAMP(at), bytes_transferred FROM telemetry_history WHERE job_id = %s ORDER BY id",
            job_id,
        )
        return [(seq, float(at), moved) for seq, at, moved in found]

    def close(self) -> None:
        self._link.close()


class InMemory:
    def __init__(self, *, context_required: bool = False) -> None:
        self.database = MemoryDatabase(SystemClock(), context_required=context_required)

    def add_job(self, job: Job, created_at: int | None = None, vm_name: str = "vm") -> None:
        self.database.add_job(job, vm_name, created_at=created_at)

    def history(self, job_id: str) -> list[tuple[int | None, float, int]]:
        samples = self.database.tables.history.get(job_id, {}).values()
        return [(sample.seq, sample.at, sample.bytes_transferred) for sample in samples]


def running(job_id: str, **values: object) -> Job:
    return structs.replace(Job(job_id=job_id, status="running"), **values)


def write(*jobs: Job) -> Callable[[Session], None]:
    def work(session: Session) -> None:
        session.write_jobs(jobs)
        session.write_texts(jobs)

    return work


async def stored(prepared: Prepared, job_id: str = "job-1") -> Job:
    view = await prepared.database.run(lambda session: session.job(job_id))
    assert view is not None
    return view.job
