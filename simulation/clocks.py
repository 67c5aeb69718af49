"""The clocks of one machine: the wall clock may be stepped, the monotonic one may not, a reboot begins a new boot."""

from simulation.loop import VirtualLoop
from telemetry_common.clock import Moment

EPOCH = 1_760_000_000.0
"""When every world begins, in Unix seconds."""


class MachineClock:
    """`Clock` for everything on one machine. `stepped` is how far its wall clock is off the truth."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._booted = -86_400.0
        self._boots = 1
        self.stepped = 0.0

    def wall(self) -> float:
        return EPOCH + self._loop.now + self.stepped

    def monotonic(self) -> float:
        return self._loop.now

    def moment(self) -> Moment:
        return Moment(self.wall(), self._loop.now - self._booted, f"boot-{self._boots}")

    def step(self, seconds: float) -> None:
        self.stepped += seconds

    def reboot(self) -> None:
        self._booted = self._loop.now
        self._boots += 1
