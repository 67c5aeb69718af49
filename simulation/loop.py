"""An event loop without a world: its time jumps to the next timer, it has no descriptors and no threads.

Every task belongs to a `Realm`, the process of the simulated world that started it, so that a process can die at any
await with all that it had running. Tasks have numbers for hashes: no order depends on where an object lies in memory.
"""

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from operator import attrgetter
from typing import Any, TypeVar, TypeVarTuple, Unpack

from simulation.realm import ROUNDS_TO_DIE, Realm, current_realm

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_RESOLUTION_SECONDS = 1e-7
"""Timers that lie closer together than a double can tell apart after a year ring together."""
_MOST_TURNS = 20_000
"""Within one moment. Somebody is busy with nothing, and time will never pass."""
_context_of = attrgetter("_context")
"""Of a handle: in which realm its callback runs. asyncio has it, and shows it from Python 3.12 on."""


class NothingWillHappen(RuntimeError):
    """Every task waits for something that no timer will bring."""


class _Task(asyncio.Task[Any]):
    """A set of these has the same order in every run."""

    def __init__(self, number: int, *arguments: Any, **more: Any) -> None:
        self._number = number
        super().__init__(*arguments, **more)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.BaseEventLoop):
    """`unforeseen` collects what nobody has caught: no process of the world may leave anything there.

    `stands_still` is called when time does not pass any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.unforeseen: list[str] = []
        self.stands_still: Callable[[], None] = lambda: None
        self._turns_of_moment = 0
        self._tasks_made = 0
        self._waiting: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_made = 0
        self._stopping = False
        self._doomed: dict[Realm, int] = {}
        self.set_task_factory(self._make)

    def time(self) -> float:
        return self.now

    def spawn(self, work: Coroutine[Any, Any, T], name: str, realm: Realm | None = None) -> "asyncio.Task[T]":
        """A task of this realm, whoever calls; of the world itself without one."""
        return self.create_task(work, name=name, context=realm.context() if realm else contextvars.Context())

    async def doom(self, realm: Realm, steps: int) -> None:
        """It ends when it has taken so many steps more: between any two awaits of what it has running.

        Returns when it is over, be it for another reason.
        """
        self._doomed[realm] = steps
        await realm.over.wait()
        self._doomed.pop(realm, None)

    def pardon(self) -> None:
        """Nobody dies of a doom from now on; who waits for that waits until it is over otherwise."""
        self._doomed.clear()

    def call_exception_handler(self, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, asyncio.CancelledError):  # of a process that was killed
            self.unforeseen.append(f"{context.get('message')}: {error!r}")

    def set_exception_handler(self, handler: object) -> None:
        """The daemons' own handlers are about descriptors, of which there are none here."""

    async def create_server(
        self, protocol_factory: Callable[[], Any], *arguments: Any, sock: Any = None, **more: Any
    ) -> Any:
        """The listening socket is the world's: it is given what makes the other end of a connection."""
        return sock.served_by(protocol_factory)

    def _make(self, loop: asyncio.AbstractEventLoop, work: Any, context: Any = None) -> "asyncio.Task[Any]":
        self._tasks_made += 1
        task = _Task(self._tasks_made, work, loop=loop, context=context)
        realm = current_realm.get() if context is None else context.get(current_realm)
        if realm is not None:
            realm.add(task)
        return task

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._waiting.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Timers of one moment ring in the order in which they were set."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time has come."""

    def _run_once(self) -> None:
        """One turn: what is ready; if nothing is, time passes until the next timer."""
        waiting, timers = self._waiting, self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not waiting and not self._stopping:
            if not timers:
                raise NothingWillHappen
            self._pass(timers[0][0])
        self._turns_of_moment += 1
        if self._turns_of_moment == _MOST_TURNS:
            self.stands_still()
        end = self.now + _RESOLUTION_SECONDS
        while timers and timers[0][0] <= end:
            waiting.append(heapq.heappop(timers)[2])
        for _ in range(len(waiting)):
            handle = waiting.popleft()
            if not handle.cancelled():
                handle._run()
                if self._doomed:
                    self._count_step(handle)

    def _pass(self, until: float) -> None:
        if until > self.now:
            self.now, self._turns_of_moment = until, 0

    def _count_step(self, handle: asyncio.Handle) -> None:
        realm: Realm | None = _context_of(handle).get(current_realm)
        if realm is None or realm not in self._doomed:
            return
        self._doomed[realm] -= 1
        if self._doomed[realm] <= 0:
            del self._doomed[realm]
            realm.end()

    def _write_to_self(self) -> None:
        """Nothing calls from another thread."""


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Like asyncio.run, in a world of its own."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.run_until_complete(_nothing_left(loop))
        asyncio.set_event_loop(None)
        loop.close()


async def _nothing_left(loop: VirtualLoop) -> None:
    """The end of the world, for all that is still under way."""
    for _ in range(ROUNDS_TO_DIE):
        left = asyncio.all_tasks(loop) - {asyncio.current_task()}
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.sleep(0)
