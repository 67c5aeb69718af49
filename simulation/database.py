"""The database server of the world: the in-memory twin behind connections that wait, break, and lose their answers.

A transaction is one moment of the twin's: it sees what was committed before it, and is seen by what comes after it.
That is what the locks on the hub's rows make of transactions on MariaDB; one suite of tests holds the two together.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from msgspec import structs

from sha_daemon.database import DatabaseAway, DatabaseConflict, Session
from sha_daemon.records import Job, JobView, Sample
from simulation.clocks import MachineClock
from simulation.faults import Dice
from simulation.ground import Ground
from simulation.realm import Realm
from simulation.watched_tables import WatchedTables
from telemetry_common.contract import FINAL
from testbed.memory_database import MemoryDatabase, When

T = TypeVar("T")


@dataclass(frozen=True)
class Client:
    """A life of a hub, as far as the server knows of it."""

    realm: Realm
    clock: MachineClock


Observer = Callable[[Mapping[str, JobView | None], list[Sample], Client | None], None]
"""Told of each commit: the changed jobs as they were before, the new samples, and whose it was (None: no hub's)."""

KINDS = ("connection lost", "deadlock", "commit lost", "answer to commit lost", "database slow")
_STRIKES: Mapping[str, When] = {
    "connection lost": "begin",
    "deadlock": "commit",
    "commit lost": "commit",
    "answer to commit lost": "answer",
}
STRUCK_DOWN = ("commit lost", "answer to commit lost")
"""What may become of a transaction when the server dies in the midst of it."""
_HARMS_FOR_SECONDS = 60.0


class Server:
    def __init__(self, ground: Ground, clock: MachineClock) -> None:
        self.loop = ground.loop
        self.clock = clock
        self.faults = ground.faults
        self.truth = ground.truth
        self.dice = Dice(ground.faults, "database", KINDS)
        self.twin = MemoryDatabase(clock)
        self.tables = WatchedTables(clock.wall())
        self.twin.tables = self.tables
        self.tables.committed = self._committed
        self.observers: list[Observer] = []
        self.up = True
        self.down = asyncio.Event()
        self.incarnation = 0
        self._by: Client | None = None
        self._held: str | None = None
        self._refused: str | None = None
        self._let_go: dict[str, float] = {}
        self._deadlock_at = float("-inf")
        self._falls_in = 0

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
        return self.grips(job_id) or self.loop.now - since < _HARMS_FOR_SECONDS

    def grips(self, job_id: str) -> bool:
        """Whether nobody can change this job for now: it is held, or refused."""
        return job_id in (self._held, self._refused)

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

    def transact(self, client: Client, work: Callable[[Session], T], strike: str) -> T:
        """Raises what the work raises, and what strikes it."""
        if self._falls_in:
            self._falls_in -= 1
            if not self._falls_in:
                self._fall()
                strike = self.dice.chance.choice(STRUCK_DOWN)
        if strike == "deadlock":
            self._deadlock_at = self.loop.now
        if strike in _STRIKES:
            error = DatabaseConflict("deadlock") if strike == "deadlock" else DatabaseAway(strike)
            self.twin.fail(_STRIKES[strike], error)
        self._by = client
        try:
            return self.twin.transact(work)
        finally:
            self._by = None

    def _committed(self, before: Mapping[str, JobView | None], samples: list[Sample]) -> None:
        for observer in self.observers:
            observer(before, samples, self._by)
