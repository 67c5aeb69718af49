"""The database's in-memory twin: the same `Session`, the same answers, no server and no thread.

It runs each transaction inline, so the hub's real code can live under a virtual clock. One suite
of tests keeps it and MariaDB alike.
"""

import math
from collections.abc import Callable
from typing import Literal, TypeVar

from msgspec import structs

from sha_daemon.database import DatabaseAway, DatabaseError, Session
from sha_daemon.records import Job, JobView
from telemetry_common.clock import Clock
from testbed.memory_session import MemorySession, Obstacles
from testbed.memory_tables import Tables, as_stored, disk_as_stored

T = TypeVar("T")
When = Literal["begin", "commit", "answer"]
"""Where a fault strikes: before the work; at COMMIT, undone; after COMMIT, so that only the answer is lost."""


class MemoryDatabase:
    """Implements `database.Database`. `clock` is the database's own: its wall clock may be stepped like any other."""

    def __init__(self, clock: Clock, *, context_required: bool = False) -> None:
        self._clock = clock
        self._context_required = context_required
        self._faults: dict[When, DatabaseError] = {}
        self._closed = False
        self._obstacles = Obstacles()
        self._away: Exception | None = None
        self.tables = Tables(clock.wall())

    def fail(self, when: When, error: DatabaseError) -> None:
        """The next transaction meets this error there."""
        self._faults[when] = error

    def away(self, error: Exception | None) -> None:
        """Every transaction meets this error from now on. None: none does."""
        self._away = error

    def hold(self, job_id: str | None, *, disks_only: bool = False) -> None:
        """Another program holds this job's row, or those of its disks, from now on: who wants them waits in vain.

        None: it lets go.
        """
        self._obstacles.held = None if disks_only else job_id
        self._obstacles.held_disks = job_id if disks_only else None

    def refuse(self, job_id: str | None) -> None:
        """The server takes no update of this job from now on. None: it takes all."""
        self._obstacles.refused = job_id

    def add_job(
        self, job: Job, vm_name: str = "vm", backup_type: str = "full", created_at: float | None = None
    ) -> None:
        """A row as another program would make it, its disks included."""
        disks = tuple(structs.replace(disk_as_stored(disk), row_id=self.tables.next_row_id()) for disk in job.disks)
        at = math.floor(self._clock.wall() if created_at is None else created_at)
        row = structs.replace(as_stored(job), disks=disks)
        view = JobView(job=row, vm_name=vm_name, backup_type=backup_type, created_at=at)
        self.tables.put_job(view)
        self.tables.forget_changes()

    async def run(self, work: Callable[[Session], T]) -> T:
        return self.transact(work)

    def transact(self, work: Callable[[Session], T]) -> T:
        """The same for a caller who does not wait: a transaction of the twin takes no time."""
        if self._closed:
            raise DatabaseAway("cannot reach the database: the hub is stopping")
        if self._away is not None:
            raise self._away
        self._strike("begin")
        try:
            result = work(self._session())
            self._strike("commit")
        except BaseException:
            self.tables.take_back()
            raise
        self.tables.forget_changes()
        self._strike("answer")
        return result

    def _session(self) -> MemorySession:
        now = self._clock.wall()
        return MemorySession(self.tables, now, self._obstacles, context_required=self._context_required)

    async def close(self) -> None:
        self._closed = True

    def _strike(self, when: When) -> None:
        error = self._faults.pop(when, None)
        if error is not None:
            raise error
