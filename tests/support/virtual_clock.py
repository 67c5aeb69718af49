"""An event loop whose time is virtual: sleeping costs nothing, and an hour of silence takes a millisecond."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from telemetry_common.clock import Moment

T = TypeVar("T")


class NothingWillHappen(RuntimeError):
    """Every task waits for something that no timer and no descriptor will bring."""


class _JumpingSelector(selectors.DefaultSelector):
    """Where a real selector would wait, time jumps to the next timer."""

    clock: "VirtualClock"

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise NothingWillHappen
        self.clock.now += timeout
        return ready


class VirtualClock:
    """`Clock` for tests: `now` is monotonic and boot time alike; `stepped` moves the wall clock alone."""

    def __init__(self, wall: float = 1_760_000_000.0) -> None:
        self.now = 0.0
        self._epoch = wall
        self.stepped = 0.0
        self.boot_id = "boot-1"

    def wall(self) -> float:
        return self._epoch + self.now + self.stepped

    def monotonic(self) -> float:
        return self.now

    def moment(self) -> Moment:
        return Moment(self.wall(), self.now, self.boot_id)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        selector = _JumpingSelector()
        selector.clock = clock
        self._virtual = clock
        super().__init__(selector)

    def time(self) -> float:
        return self._virtual.now


def run_virtual(main: Coroutine[Any, Any, T], clock: VirtualClock) -> T:
    """Like asyncio.run, with time as a number. No threads, no sockets to the outside: they would not wait for it."""
    with asyncio.Runner(loop_factory=lambda: virtual_loop(clock)) as runner:
        return runner.run(main)


def virtual_loop(clock: VirtualClock) -> asyncio.AbstractEventLoop:
    """For an `asyncio.Runner` that runs one thing after the other."""
    return _VirtualLoop(clock)
