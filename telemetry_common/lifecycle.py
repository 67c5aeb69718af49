"""What systemd hears from a daemon: READY, STATUS, WATCHDOG, RELOADING, STOPPING.

`WATCHDOG=1` is sent by one loop, and only while every part it vouches for has made its turn in time: a ping from a
mere timer keeps a hung daemon alive.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Protocol

import sdnotify

from telemetry_common.clock import Clock
from telemetry_common.logs import fields

log = logging.getLogger(__name__)


class Notifier(Protocol):
    """One way to the service manager. Never raises: without a manager it says nothing."""

    def notify(self, state: str) -> None: ...


class SystemdNotifier:
    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None

    def notify(self, state: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(state)


def watchdog_interval() -> float | None:
    """Seconds between two pings: a third of WatchdogSec, or None where systemd asked for none (or not this process)."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or int(microseconds) == 0 or pid != str(os.getpid()):
        return None
    return int(microseconds) / 3_000_000


class Pulse:
    """The turns of one part, one every `allowed` seconds at least: each calls `beat`."""

    def __init__(self, name: str, allowed: float, clock: Clock) -> None:
        self.name = name
        self._allowed = allowed
        self._clock = clock
        self._last = clock.monotonic()

    def beat(self) -> None:
        self._last = self._clock.monotonic()

    def late(self, by: float) -> bool:
        """Whether its turn is overdue by more than `by` seconds."""
        return self._clock.monotonic() - self._last > self._allowed + by

    def forgive(self, seconds: float) -> None:
        """So long nobody could have made a turn."""
        self._last += seconds


class Lifecycle:
    """Ready, alive, stopping: said to systemd, on behalf of the parts that registered a pulse."""

    def __init__(self, notifier: Notifier, clock: Clock) -> None:
        self._notifier = notifier
        self._clock = clock
        self._pulses: list[Pulse] = []
        self._late: set[str] = set()

    def pulse(self, name: str, allowed: float) -> Pulse:
        """A part that must `beat` at least every `allowed` seconds for the daemon to count as alive."""
        pulse = Pulse(name, allowed, self._clock)
        self._pulses.append(pulse)
        return pulse

    def ready(self, status: str) -> None:
        self._notifier.notify(f"READY=1\nSTATUS={_one_line(status)}")

    def reloading(self) -> None:
        """`ready` ends it."""
        self._notifier.notify(f"RELOADING=1\nMONOTONIC_USEC={int(self._clock.monotonic() * 1e6)}")

    def stopping(self, status: str) -> None:
        self._notifier.notify(f"STOPPING=1\nSTATUS={_one_line(status)}")

    async def vouch(self, status: Callable[[], str], interval: float) -> None:
        """For ever, each `interval` seconds: tell the status, and ping the watchdog unless a part is late.

        A part is late when its turn is overdue by more than `interval`: it has been given until the next look.
        """
        looked = self._clock.monotonic()
        while True:
            self._forgive(self._clock.monotonic() - looked - interval, interval)
            looked = self._clock.monotonic()
            self._notifier.notify(f"STATUS={_one_line(status())}")
            if self._all_on_time(interval):
                self._notifier.notify("WATCHDOG=1")
            await asyncio.sleep(interval)

    def _forgive(self, late: float, interval: float) -> None:
        """Where this loop itself comes late, nobody had a turn: the process was suspended, or something held it up."""
        if late > interval:
            log.warning(fields("the daemon stood still", seconds=late))
            for pulse in self._pulses:
                pulse.forgive(late)

    def _all_on_time(self, interval: float) -> bool:
        late = {pulse.name for pulse in self._pulses if pulse.late(interval)}
        for name in sorted(late - self._late):
            log.error(fields("part is stuck; no watchdog ping until it moves", part=name))
        for name in sorted(self._late - late):
            log.warning(fields("part moves again", part=name))
        self._late = late
        return not late


def _one_line(status: str) -> str:
    """In ASCII: sdnotify silently drops a whole message, its READY=1 included, for one character beyond Latin-1."""
    return " ".join(status.split()).encode("ascii", "backslashreplace").decode()
