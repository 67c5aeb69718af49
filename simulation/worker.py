"""A thread of a process of the world that does one piece of work after the other, in the order of the calls."""

import asyncio
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from simulation.loop import VirtualLoop
from simulation.realm import Realm

W = TypeVar("W")


class Worker(ABC, Generic[W]):
    """Cancelling the caller does not undo the work. When the process dies, the piece under way is done, or not."""

    def __init__(self, loop: VirtualLoop, realm: Realm, chance: random.Random) -> None:
        self._loop = loop
        self._realm = realm
        self._chance = chance
        self._waiting: deque[tuple[W, asyncio.Future[Any]]] = deque()
        self._under_way: W | None = None
        self._busy = False
        realm.on_death.append(self._dies)

    @abstractmethod
    def _begun(self, work: W) -> tuple[float, Callable[[], object]]:
        """In how many seconds it is done, and what does it then. That may raise what the caller is to get."""

    @abstractmethod
    def _left_behind(self, work: W) -> None:
        """The process is dead, and the piece that was under way is done all the same."""

    @abstractmethod
    def _way_back(self, error: Exception | None) -> float:
        """How long the answer takes, in seconds."""

    async def do(self, work: W) -> Any:
        done: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((work, done))
        if not self._busy:
            self._begin()
        return await done

    def _begin(self) -> None:
        self._busy = True
        self._under_way, done = self._waiting.popleft()
        seconds, execute = self._begun(self._under_way)
        self._loop.call_later(seconds, self._execute, execute, done)

    def _execute(self, execute: Callable[[], object], done: "asyncio.Future[Any]") -> None:
        if not self._realm.alive:
            return
        self._under_way = None
        result: object = None
        error: Exception | None = None
        try:
            result = execute()
        except Exception as raised:
            error = raised
        self._loop.call_later(self._way_back(error), self._answer, done, result, error)

    def _answer(self, done: "asyncio.Future[Any]", result: object, error: Exception | None) -> None:
        self._busy = False
        if not self._realm.alive:
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
        if self._under_way is not None:
            self._left_behind(self._under_way)
