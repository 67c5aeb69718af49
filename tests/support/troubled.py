"""Both implementations of `Database` with two connections each, and with all that can go wrong between and behind them.

On MariaDB it goes wrong for real: connections are cut, the server is killed, rows are locked, transactions overlap. The
twin knows a transaction as one moment: what overlaps there comes one behind the other.
"""

from typing import Protocol, TypeVar

from sha_daemon.database import Database, DatabaseAway, DatabaseConflict, Session
from testbed.memory_database import When
from tests.support.databases import InMemory, Prepared, Work

T = TypeVar("T")
U = TypeVar("U")


class Troubled(Prepared, Protocol):
    """A database under test and in trouble. Jobs are prepared before the trouble begins."""

    @property
    def other(self) -> Database:
        """A second connection, as another hub's."""

    async def lose(self, when: When) -> None:
        """The connection breaks during the next transaction: at its beginning, before the COMMIT or right after it."""

    async def late(self, work: Work[object], job_id: str) -> None:
        """`work` on this job, whose connection breaks while its COMMIT is on the way. Raises what `work` gets."""

    async def arrive(self) -> None:
        """The late COMMIT comes to the server, which holds the job's row until then."""

    async def deadlock(self, work: Work[object]) -> None:
        """`work`, the victim of a deadlock when all of it but the COMMIT is done. It must leave DEADLY alone."""

    async def kill(self, work: Work[object]) -> None:
        """The server is killed when all of `work` but the COMMIT is done, and started again. Raises what `work` got."""

    def hold(self, job_id: str | None, *, disks_only: bool = False) -> None:
        """Another program holds the job's row, or those of its disks. None: it lets go."""

    def refuse(self, job_id: str) -> None:
        """The server takes no update of the job's row from now on."""

    async def in_order(self, first: Work[T], second: Work[U], waiting_seconds: float = 0.0) -> tuple[T, U]:
        """Both at the same time, on two connections; `first` has done all but the COMMIT when `second` begins.

        Where `second` has to wait for `first`, it does so for this long.
        """

    async def overtaken(self, begun: Work[object], first: Work[object], after: Work[T]) -> T:
        """`after`, in a transaction that began with `begun`, before `first` was committed on the other connection."""


DEADLY = "deadly"
"""The job that `deadlock` needs."""


class TroubledTwin(InMemory):
    _late: Work[object]

    @property
    def other(self) -> Database:
        return self.database

    async def lose(self, when: When) -> None:
        self.database.fail(when, DatabaseAway("connection lost"))

    async def late(self, work: Work[object], job_id: str) -> None:
        """The row is held: what the work does behind the wait is what it would have done before it."""
        self._late = work
        self.database.fail("commit", DatabaseAway("connection lost"))
        try:
            await self.database.run(work)
        finally:
            self.hold(job_id)

    async def arrive(self) -> None:
        self.hold(None)
        await self.database.run(self._late)

    async def deadlock(self, work: Work[object]) -> None:
        self.database.fail("commit", DatabaseConflict("deadlock"))
        await self.database.run(work)

    async def kill(self, work: Work[object]) -> None:
        self.database.fail("commit", DatabaseAway("server killed"))
        await self.database.run(work)

    def hold(self, job_id: str | None, *, disks_only: bool = False) -> None:
        self.database.hold(job_id, disks_only=disks_only)

    def refuse(self, job_id: str) -> None:
        self.database.refuse(job_id)

    async def in_order(self, first: Work[T], second: Work[U], waiting_seconds: float = 0.0) -> tuple[T, U]:
        return await self.database.run(first), await self.database.run(second)

    async def overtaken(self, begun: Work[object], first: Work[object], after: Work[T]) -> T:
        await self.database.run(first)
        return await self.database.run(then(begun, after))


def then(work: Work[object], more: Work[T]) -> Work[T]:
    def both(session: Session) -> T:
        work(session)
        return more(session)

    return both
