"""MariaDB in real trouble: see `troubled`."""

import asyncio
import threading
from contextlib import suppress
from typing import TypeVar

from msgspec import structs

from sha_daemon.config import DatabaseSettings
from sha_daemon.database import Database, DatabaseAway, Session
from sha_daemon.mariadb import Link, MariaDB, connect
from testbed.mariadb import PrivateMariaDB
from tests.support.cut_connections import Cut, CutConnections
from tests.support.databases import OnMariaDB, Work
from tests.support.troubled import DEADLY, then

T = TypeVar("T")
U = TypeVar("U")

_PATIENCE_SECONDS = 30.0
_MUCH = "INSERT INTO backup_disks (backup_job_id, disk_index) SELECT %s, seq FROM seq_1_to_300"

_HOLD = "SELECT id FROM backup_jobs WHERE id = %s FOR UPDATE"
_HOLD_DISKS = "SELECT id FROM backup_disks WHERE backup_job_id = %s FOR UPDATE"
_EMPTY = (
    "DROP TRIGGER IF EXISTS refuse",
    "DELETE FROM backup_jobs",
    "DELETE FROM telemetry_history",
    "UPDATE telemetry_listening SET listened_us = 0, advanced_at = UTC_TIMESTAMP(6)",
)


class Pause:
    """A place in a transaction, on its thread, at which it waits until the test lets it go on."""

    def __init__(self) -> None:
        self._there = threading.Event()
        self._go_on = threading.Event()

    def behind(self, work: Work[T]) -> Work[T]:
        def paused(session: Session) -> T:
            result = work(session)
            self._there.set()
            assert self._go_on.wait(_PATIENCE_SECONDS), "nobody let it go on"
            return result

        return paused

    async def reached(self, by: "asyncio.Task[object]") -> None:
        """Raises what ended it before."""
        there = asyncio.create_task(asyncio.to_thread(self._there.wait, _PATIENCE_SECONDS))
        await asyncio.wait([by, there], return_when=asyncio.FIRST_COMPLETED)
        self._there.set()
        await there
        if by.done():
            by.result()

    def go_on(self) -> None:
        self._go_on.set()


class TroubledMariaDB(OnMariaDB):
    """`way` leads to `server`, and `settings` over it."""

    def __init__(self, server: PrivateMariaDB, way: CutConnections, settings: DatabaseSettings) -> None:
        self._server = server
        self._way = way
        self._direct = structs.replace(settings, socket=str(server.socket))
        super().__init__(self._direct)
        self.database = MariaDB(settings)
        self.other: Database = MariaDB(self._direct)
        self._holder: Link | None = None

    async def lose(self, when: Cut) -> None:
        await self.database.run(lambda session: session.listening_us())
        self._way.cut(when)

    async def late(self, work: Work[object], job_id: str) -> None:
        await self.lose("late")
        await self.database.run(work)

    async def arrive(self) -> None:
        await self._way.arrive()

    async def deadlock(self, work: Work[object]) -> None:
        """Of the two that wait for each other the server undoes whoever has changed less."""
        pause = Pause()
        opponent = self._holding(DEADLY)
        opponent.execute(_MUCH, DEADLY)
        victim = asyncio.create_task(self.database.run(then(pause.behind(work), lambda s: s.lock_jobs([DEADLY]))))
        await pause.reached(victim)
        waits = asyncio.create_task(asyncio.to_thread(opponent.rows, "SELECT id FROM backup_jobs FOR UPDATE"))
        await self._someone_waits(waits)
        pause.go_on()
        await asyncio.wait([victim, waits])
        waits.result()
        opponent.rollback()
        opponent.close()
        victim.result()

    async def kill(self, work: Work[object]) -> None:
        pause = Pause()
        victim = asyncio.create_task(self.database.run(pause.behind(work)))
        await pause.reached(victim)
        self._server.kill()
        pause.go_on()
        await asyncio.wait([victim])
        self._server.start()
        self.link_anew()
        with suppress(DatabaseAway):
            await self.other.run(lambda session: session.listening_us())
        victim.result()

    def hold(self, job_id: str | None, *, disks_only: bool = False) -> None:
        if self._holder is not None:
            self._holder.rollback()
            self._holder.close()
        self._holder = None if job_id is None else self._holding(job_id, disks_only=disks_only)

    def _holding(self, job_id: str, *, disks_only: bool = False) -> Link:
        link = connect(self._direct, daemon=True)
        link.rows(_HOLD_DISKS if disks_only else _HOLD, job_id)
        return link

    def refuse(self, job_id: str) -> None:
        self.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON backup_jobs FOR EACH ROW"
            f" IF OLD.id = '{job_id}' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused'; END IF"
        )

    async def in_order(self, first: Work[T], second: Work[U], waiting_seconds: float = 0.0) -> tuple[T, U]:
        pause = Pause()
        one = asyncio.create_task(self.database.run(pause.behind(first)))
        await pause.reached(one)
        two = asyncio.create_task(self.other.run(second))
        await self._someone_waits(two)
        await asyncio.sleep(waiting_seconds)
        pause.go_on()
        return await one, await two

    async def overtaken(self, begun: Work[object], first: Work[object], after: Work[T]) -> T:
        pause = Pause()
        late = asyncio.create_task(self.other.run(then(pause.behind(begun), after)))
        await pause.reached(late)
        await self.database.run(first)
        pause.go_on()
        return await late

    async def _someone_waits(self, task: "asyncio.Task[T]") -> None:
        """Until it waits for a row, or is done without."""
        while not task.done() and self.rows("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")[0][1] == "0":
            await asyncio.sleep(0.002)

    async def end(self) -> None:
        """Leaves empty tables."""
        self.hold(None)
        await self._way.end()
        await self.database.close()
        await self.other.close()
        for statement in _EMPTY:
            self.execute(statement)
        self.close()
