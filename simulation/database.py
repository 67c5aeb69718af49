"""The database server of the world: the in-memory twin behind connections that wait, break, and lose their answers.

A transaction is one moment of the twin's: it sees what was committed before it, and is seen by what comes after it.
That is what the locks on the hub's rows make of transactions on MariaDB; one suite of tests holds the two together.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from msgspec import structs

from sha_daemon.database import DatabaseAway, DatabaseConflict, RowLocked, Session
from sha_daemon.records import Job, JobView, Sample
from simulation.clocks import MachineClock
from simulation.faults import Dice, Faults, between
from simulation.loop import Realm, VirtualLoop
from simulation.truth import Truth
from telemetry_common.contract import FINAL
from testbed.memory_database import MemoryDatabase, When
from testbed.memory_tables import Tables

T = TypeVar("T")
Observer = Callable[[Mapping[str, JobView | None], list[Sample], "Connection | None"], None]
"""Told of each commit: the changed jobs as they were before, the new samples, and whose commit it was."""

KINDS = ("connection lost", "deadlock", "commit lost", "answer to commit lost", "database slow")
_TIMEOUT_SECONDS = 20.0
_LOCK_WAIT_SECONDS = 1.0
_STRIKES: Mapping[str, When] = {
    "connection lost": "begin",
    "deadlock": "commit",
    "commit lost": "commit",
    "answer to commit lost": "answer",
}


_STRUCK_DOWN = ("commit lost", "answer to commit lost")
"""What may become of a transaction when the server dies in the midst of it."""
_HARMS_FOR_SECONDS = 60.0


class WatchedTables(Tables):
    """Knows what the transaction under way has changed."""

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self.committed: Callable[[Mapping[str, JobView | None], list[Sample]], None] = lambda before, samples: None
        self._before: dict[str, JobView | None] = {}
        self._new: list[Sample] = []

    def put_job(self, view: JobView) -> None:
        self._before.setdefault(view.job.job_id, self.jobs.get(view.job.job_id))
        super().put_job(view)

    def put_sample(self, sample: Sample) -> None:
        known = len(self.samples)
        super().put_sample(sample)
        if len(self.samples) > known:
            self._new.append(sample)

    def take_back(self) -> None:
        super().take_back()
        self._before, self._new = {}, []

    def forget_changes(self) -> None:
        super().forget_changes()
        if self._before or self._new:
            before, new = self._before, self._new
            self._before, self._new = {}, []
            self.committed(before, new)


class Server:
    def __init__(
        self, loop: VirtualLoop, clock: MachineClock, faults: Faults, rates: Mapping[str, float], truth: Truth
    ) -> None:
        self.loop = loop
        self.clock = clock
        self.faults = faults
        self.truth = truth
        self.dice = Dice(faults, "database", KINDS, rates)
        self.twin = MemoryDatabase(clock)
        self.tables = WatchedTables(clock.wall())
        self.twin.tables = self.tables
        self.tables.committed = self._committed
        self.observers: list[Observer] = []
        self.up = True
        self.down = asyncio.Event()
        self.incarnation = 0
        self._by: Connection | None = None
        self._held: str | None = None
        self._refused: str | None = None
        self._let_go: dict[str, float] = {}
        self._deadlock_at = float("-inf")
        self._falls_in = 0

    def connect(self, realm: Realm, clock: MachineClock, purpose: str) -> "Connection":
        return Connection(self, realm, clock, purpose)

    def create_job(self, job_id: str) -> None:
        """The GUI makes a job; it runs from then on as far as the GUI is concerned."""
        self.twin.add_job(Job(job_id=job_id, status="pending"))

    def cancel_job(self, job_id: str) -> bool:
        """The operator's click: another program's UPDATE. Whether there was anything to cancel."""
        view = self.tables.jobs.get(job_id)
        if view is None or view.job.status in FINAL:
            return False
        job = structs.replace(view.job, status="cancelled", completed_at=float(int(self.clock.wall())))
        self.tables.put_job(structs.replace(view, job=job))
        self.tables.forget_changes()
        return True

    def hold(self, job_id: str | None) -> None:
        """Another program locks this job's row, and lets go of the one that it had; None: of that only."""
        self._note_let_go(self._held)
        self._held = job_id
        self.twin.hold(job_id)

    def refuse(self, job_id: str | None) -> None:
        """From now on no update of this job is taken, and any of the one before. None: any."""
        self._note_let_go(self._refused)
        self._refused = job_id
        self.twin.refuse(job_id)

    def harms(self, job_id: str) -> bool:
        """Whether the server does something to this job that its sender may be told of by a 500."""
        since = max(self._let_go.get(job_id, float("-inf")), self._deadlock_at)
        return job_id in (self._held, self._refused) or self.loop.now - since < _HARMS_FOR_SECONDS

    def holds(self, job_id: str) -> bool:
        return job_id == self._held

    def _note_let_go(self, job_id: str | None) -> None:
        if job_id is not None:
            self._let_go[job_id] = self.loop.now
            self.truth.ears.disturbed()

    async def crash(self, transactions: int = 0) -> None:
        """In the midst of so many transactions from now on, or at once. Nothing that was committed is lost."""
        if transactions and self.up:
            self._falls_in = transactions
            await self.down.wait()
        elif self.up:
            self._fall()

    def _fall(self) -> None:
        self.up = False
        self.down.set()
        self._falls_in = 0
        self.incarnation += 1
        self.truth.ears.database(there=False)

    def start(self) -> None:
        self.up, self._falls_in = True, 0
        self.down.clear()
        self.truth.ears.database(there=True)

    def transact(self, connection: "Connection", work: Callable[[Session], T], strike: str) -> T:
        """Raises what the work raises, and what strikes it."""
        if self._falls_in:
            self._falls_in -= 1
            if not self._falls_in:
                self._fall()
                strike = self.dice.chance.choice(_STRUCK_DOWN)
        if strike == "deadlock":
            self._deadlock_at = self.loop.now
        if strike in _STRIKES:
            error = DatabaseConflict("deadlock") if strike == "deadlock" else DatabaseAway(strike)
            self.twin.fail(_STRIKES[strike], error)
        self._by = connection
        try:
            return self.twin.transact(work)
        finally:
            self._by = None

    def _committed(self, before: Mapping[str, JobView | None], samples: list[Sample]) -> None:
        for observer in self.observers:
            observer(before, samples, self._by)


class Connection:
    """Implements `database.Database`: one piece of work after the other, in the order of the calls.

    Cancelling the caller does not undo the work. When its process dies the COMMIT may have been on its way already.
    """

    def __init__(self, server: Server, realm: Realm, clock: MachineClock, purpose: str) -> None:
        self.clock = clock
        self.purpose = purpose
        self._server = server
        self._loop = server.loop
        self.realm = realm
        self._waiting: deque[tuple[Callable[[Session], Any], asyncio.Future[Any]]] = deque()
        self._under_way: tuple[Callable[[Session], Any], asyncio.Future[Any]] | None = None
        self._busy = False
        self._closed = False
        self._chance = server.dice.chance
        realm.on_death.append(self._dies)

    async def run(self, work: Callable[[Session], T]) -> T:
        if self._closed:
            raise DatabaseAway("cannot reach the database: the hub is stopping")
        done: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append((work, done))
        if not self._busy:
            self._begin()
        return await done

    async def close(self) -> None:
        self._closed = True

    def _begin(self) -> None:
        self._busy = True
        self._under_way = self._waiting.popleft()
        strike = self._server.dice.throw()
        seconds = 0.0003 + 0.003 * self._chance.random()
        if strike:
            self._server.faults.note(strike, more=self.purpose)
            self._server.truth.ears.disturbed(25.0 if strike == "database slow" else 15.0)
        if strike == "database slow":
            seconds = between(self._chance, 0.1, 2 * _TIMEOUT_SECONDS)
        if seconds > _TIMEOUT_SECONDS:
            seconds, strike = _TIMEOUT_SECONDS, self._chance.choice(_STRUCK_DOWN)
        self._loop.call_later(seconds, self._execute, strike, self._server.incarnation)

    def _execute(self, strike: str, incarnation: int) -> None:
        if not self.realm.alive or self._under_way is None:
            return
        (work, done), self._under_way = self._under_way, None
        server = self._server
        try:
            if not server.up or incarnation != server.incarnation:
                raise DatabaseAway("cannot reach the database: connection refused")
            result = server.transact(self, work, strike)
        except Exception as error:
            wait = _LOCK_WAIT_SECONDS if isinstance(error, RowLocked) else 0.0002
            self._loop.call_later(wait, self._answer, done, None, error)
        else:
            self._loop.call_later(0.0002, self._answer, done, result, None)

    def _answer(self, done: "asyncio.Future[Any]", result: object, error: Exception | None) -> None:
        self._busy = False
        if not self.realm.alive:
            return
        if self._waiting:
            self._begin()
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
            done.exception()  # nobody may wait for it any more
        else:
            done.set_result(result)

    def _dies(self) -> None:
        if self._under_way is None or not self._server.up or self._chance.random() < 0.5:
            return
        try:
            self._server.transact(self, self._under_way[0], "")
        except Exception as error:
            self._server.faults.note("died in a transaction that failed", more=type(error).__name__)
