"""A process of the simulated world: what it has running, and its death, which may come at any await."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_TASKS_BEFORE_TIDYING = 64
ROUNDS_TO_DIE = 200


class Realm:
    """What one process of the world has running.

    `on_death` is told of its end by kill, before its tasks are; `over` is set however it ends.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.over = asyncio.Event()
        self.on_death: list[Callable[[], None]] = []
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._tidy_at = _TASKS_BEFORE_TIDYING
        self._context = contextvars.Context()
        self._context.run(current_realm.set, self)

    def context(self) -> contextvars.Context:
        """To run a callback or a task as a part of this realm."""
        return self._context.copy()

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Now, as this process."""
        return self.context().run(function, *arguments)

    def add(self, task: asyncio.Task[Any]) -> None:
        self._tasks[task] = None
        if len(self._tasks) > self._tidy_at:
            self._tasks = {task: None for task in self._tasks if not task.done()}
            self._tidy_at = max(_TASKS_BEFORE_TIDYING, 2 * len(self._tasks))

    def end(self) -> None:
        """From now on nothing that it does reaches the world."""
        if self.alive:
            self.alive = False
            self.over.set()
            for told in self.on_death:
                told()

    async def kill(self) -> None:
        """Nothing of it runs any more."""
        self.end()
        for _ in range(ROUNDS_TO_DIE):
            left = [task for task in self._tasks if not task.done()]
            if not left:
                return
            for task in left:
                task.cancel()
            await asyncio.sleep(0)
        raise RuntimeError(f"{self.name} does not die: {[task.get_name() for task in self._tasks if not task.done()]}")


current_realm: contextvars.ContextVar[Realm | None] = contextvars.ContextVar("realm", default=None)
