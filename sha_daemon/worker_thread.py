"""One thread that does one piece of work after the other: what blocks (a database driver) stays off the event loop."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class WorkerThread:
    """It begins with its first work. It does not keep the process from ending while it is stuck in a call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._busy_since: float | None = None

    def busy_since(self) -> float | None:
        """Monotonic time at which the present piece of work began; None while there is none."""
        return self._busy_since

    async def call(self, work: Callable[[], T]) -> T:
        """Run `work` there, after all that was called before; its result or its exception.

        Cancelling the caller does not undo the work: it is done all the same.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        done: Future[T] = Future()
        self._waiting.put((work, done))
        return await asyncio.shield(_waited_for(done))

    def end(self) -> None:
        """No more work; what is waiting is still done."""
        self._waiting.put(None)

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            work, done = item
            self._busy_since = time.monotonic()
            try:
                result = work()
            except BaseException as error:
                self._busy_since = None
                done.set_exception(error)
            else:
                self._busy_since = None
                done.set_result(result)
            del item, work, done


def _waited_for(done: "Future[T]") -> "asyncio.Future[T]":
    """As asyncio sees it. An error that nobody waits for any more (the caller was cancelled) is no news for the log."""
    future = asyncio.wrap_future(done)
    future.add_done_callback(lambda finished: finished.cancelled() or finished.exception())
    return future
