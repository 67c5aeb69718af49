"""A hub's connection to the database server: it waits, breaks, and loses answers."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from sha_daemon.database import DatabaseAway, RowLocked, Session
from simulation.database import STRUCK_DOWN, Client, Server
from simulation.faults import between
from simulation.worker import Worker

T = TypeVar("T")
Work = Callable[[Session], Any]
_TIMEOUT_SECONDS = 20.0
_LOCK_WAIT_SECONDS = 1.0


class Connection(Worker[Work]):
    """Implements `database.Database`. When its process dies the COMMIT may have been on its way already."""

    def __init__(self, server: Server, client: Client, purpose: str) -> None:
        super().__init__(server.loop, client.realm, server.dice.chance)
        self._server = server
        self._client = client
        self._purpose = purpose
        self._closed = False

    async def run(self, work: Callable[[Session], T]) -> T:
        if self._closed:
            raise DatabaseAway("cannot reach the database: the hub is stopping")
        result: T = await self.do(work)
        return result

    async def close(self) -> None:
        self._closed = True

    def _begun(self, work: Work) -> tuple[float, Callable[[], object]]:
        strike = self._server.dice.throw()
        seconds = 0.0003 + 0.003 * self._chance.random()
        if strike:
            self._server.faults.note(strike, more=self._purpose)
            self._server.truth.ears.disturbed(25.0 if strike == "database slow" else 15.0)
        if strike == "database slow":
            seconds = between(self._chance, 0.1, 2 * _TIMEOUT_SECONDS)
        if seconds > _TIMEOUT_SECONDS:
            seconds, strike = _TIMEOUT_SECONDS, self._chance.choice(STRUCK_DOWN)
        return seconds, partial(self._transact, work, strike, self._server.incarnation)

    def _transact(self, work: Work, strike: str, incarnation: int) -> object:
        if not self._server.up or incarnation != self._server.incarnation:
            raise DatabaseAway("cannot reach the database: connection refused")
        return self._server.transact(self._client, work, strike)

    def _way_back(self, error: Exception | None) -> float:
        return _LOCK_WAIT_SECONDS if isinstance(error, RowLocked) else 0.0002

    def _left_behind(self, work: Work) -> None:
        if not self._server.up or self._chance.random() < 0.5:
            return
        try:
            self._server.transact(self._client, work, "")
        except Exception as error:
            self._server.faults.note("died in a transaction that failed", more=type(error).__name__)
