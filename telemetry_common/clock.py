"""The two times a daemon reads, handed in from outside so that a simulation can own them.

Waiting is asyncio's own business: under a virtual clock the event loop's time is virtual, and
`asyncio.sleep` and `asyncio.timeout` follow it. Only *reading* the time goes through here.
"""

import functools
import time
from pathlib import Path
from typing import Protocol

import msgspec


class Moment(msgspec.Struct, frozen=True):
    """One instant as seen by every clock that outlives something; kept beside what was true then.

    `wall` is Unix seconds. `boot` is seconds since `boot_id` began (it runs on through suspend and through a
    restart of the daemon, and no administrator can step it).
    """

    wall: float
    boot: float
    boot_id: str


class Clock(Protocol):
    def wall(self) -> float:
        """Unix seconds, UTC. May be stepped at any time: only for what is stored or shown."""

    def monotonic(self) -> float:
        """Seconds that only grow; the event loop's own time. For every interval within the process."""

    def moment(self) -> Moment:
        """Now, on the clocks that survive this process."""


class SystemClock:
    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def moment(self) -> Moment:
        return Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), self._boot_id)

    @functools.cached_property
    def _boot_id(self) -> str:
        """Read when it is first needed: the hub never needs it, and its unit hides /proc/sys."""
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def age_seconds(then: Moment, now: Moment) -> float:
    """How long ago `then` was, never negative.

    By the boot-time clock within one boot, by the wall clock across a reboot (the only one that spans it).
    """
    if then.boot_id == now.boot_id:
        return max(0.0, now.boot - then.boot)
    return max(0.0, now.wall - then.wall)
