"""A hub's connection to the database server: it waits, breaks, and loses answers."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from sha_daemon.database import DatabaseAway, RowLocked, Session
from simulation.database import STRUCK_DOWN, Client, Server
from simulation.faults import between

T = TypeVar("T")
_TIMEOUT_SECONDS = 20.0
_LOCK_WAIT_SECONDS = 1.0


class Connection:
    """Implements `database.Database`: one piece of work after the other, in the order of the calls.

    Cancelling the caller does not undo the work. When its process dies the COMMIT may have been on its way already.
    """

    def __init__(self, server: Server, client: Client, purpose: str) -> None:
        self.purpose = purpose
        self._server = server
        self._client = client
        self._loop = server.loop
        self._waiting: deque[tuple[Callable[[Session], Any], asyncio.Future[Any]]] = deque()
        self._under_way: tuple[Callable[[Session], Any], asyncio.Future[Any]] | None = None
        self._busy = False
        self._closed = False
        self._chance = server.dice.chance
        client.realm.on_death.append(self._dies)

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
            seconds, strike = _TIMEOUT_SECONDS, self._chance.choice(STRUCK_DOWN)
        self._loop.call_later(seconds, self._execute, strike, self._server.incarnation)

    def _execute(self, strike: str, incarnation: int) -> None:
        if not self._client.realm.alive or self._under_way is None:
            return
        (work, done), self._under_way = self._under_way, None
        server = self._server
        try:
            if not server.up or incarnation != server.incarnation:
                raise DatabaseAway("cannot reach the database: connection refused")
            result = server.transact(self._client, work, strike)
        except Exception as error:
            wait = _LOCK_WAIT_SECONDS if isinstance(error, RowLocked) else 0.0002
            self._loop.call_later(wait, self._answer, done, None, error)
        else:
            self._loop.call_later(0.0002, self._answer, done, result, None)

    def _answer(self, done: "asyncio.Future[Any]", result: object, error: Exception | None) -> None:
        self._busy = False
        if not self._client.realm.alive:
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
            self._server.transact(self._client, self._under_way[0], "")
        except Exception as error:
            self._server.faults.note("died in a transaction that failed", more=type(error).__name__)
