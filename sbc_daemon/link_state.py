"""Whether the hub can be reached, as one judgement for all lanes. No I/O.

While it cannot, one request at a time asks for it (any lane's), and all the others wait without a penalty of their own.
A request that hangs is not waited for by the next: it may be its job's own trouble.
One failure may be a connection that the hub closed in the same moment; the second in a row is an outage.
"""

import random
from typing import Literal

from sbc_daemon.backoff import probe_delay

Edge = Literal["lost", "back"]


PROBE_PATIENCE_SECONDS = 3.0
"""A hub that is there has answered by then."""


class LinkState:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._probes = 0
        self._probed_at = 0.0
        self._not_before = 0.0
        self.failures = 0
        self.since: float | None = None
        self.last_heard: float | None = None
        self.no_batches_at: str | None = None

    @property
    def name(self) -> Literal["up", "down", "unknown"]:
        if self.since is None:
            return "unknown"
        return "down" if self.failures else "up"

    def free_slots(self, now: float, in_flight: int, most: int) -> int:
        """How many requests may start now; the probe may be one more than `most`, which may all hang."""
        if not self.failures:
            return most - in_flight
        return int(now >= self._probe_at() and in_flight <= most)

    def seconds_to_probe(self, now: float) -> float | None:
        """Until the next probe may start; None where none is waited for."""
        return max(0.0, self._probe_at() - now) if self.failures else None

    def _probe_at(self) -> float:
        return max(self._not_before, self._probed_at + PROBE_PATIENCE_SECONDS if self._probes else 0.0)

    def begin(self, now: float) -> bool:
        """A request starts; whether it is the probe. `end_probe` must follow if it is."""
        if not self.failures:
            return False
        self._probes += 1
        self._probed_at = now
        return True

    def end_probe(self) -> None:
        self._probes -= 1

    def lost(self, now: float, *, probe: bool, not_before_seconds: float) -> Edge | None:
        """A request found no hub. Those that were under way when it went say nothing new."""
        if self.failures and not probe:
            return None
        self.failures += 1
        if self.failures == 1:
            self.since = now
        self._not_before = now + max(probe_delay(self.failures, self._rng), not_before_seconds)
        return "lost" if self.failures == 2 else None

    def answered(self, now: float) -> Edge | None:
        """The hub said something, whatever it was. After a failure it may be another hub: it is offered batches."""
        self.last_heard = now
        noticed = self.failures >= 2
        if self.failures or self.since is None:
            self.since = now
            self.no_batches_at = None
        self.failures = 0
        return "back" if noticed else None
