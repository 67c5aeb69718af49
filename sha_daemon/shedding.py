"""Whether the hub turns senders away: a connection too many, an update for which the queue has no room.

Whoever is turned away cannot be heard, and it is not known who it was. So no silence counts until those who were have
had the time to come again. Said on the edges, with the count.
"""

import logging

from telemetry_common.clock import Clock
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

RETURN_SECONDS = 30.0
"""A sender tries again within this, however often it was turned away: the sidecar's own limit."""


class Shedding:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = 0.0
        self._last = 0.0
        self._count = 0

    def turned_away(self, why: str) -> None:
        """A sender was refused just now."""
        self._last = self._clock.monotonic()
        if not self._count:
            self._began = self._last
            log.warning(fields("senders are turned away; no silence counts meanwhile", reason=why))
        self._count += 1

    def of_late(self) -> bool:
        """Whether somebody was, who may not have come again yet. Asked at every turn of the listening clock."""
        if self._count and self._clock.monotonic() - self._last > RETURN_SECONDS:
            seconds = round(self._last - self._began)
            log.info(fields("senders are turned away no longer", count=self._count, seconds=seconds))
            self._count = 0
        return self._count > 0
