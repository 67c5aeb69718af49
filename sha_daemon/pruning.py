"""Samples that have been kept for long enough are deleted: a few at a time, with a rest after each step.

Samples are let go in the order in which they came in, each once its event time is past the cut-off and so is that of
all before it. One that came in late (from an outbox, after an outage) is therefore kept for as long after its receipt
as the others. Several hubs on one database may prune at once: what one of them has deleted the next does not find.
"""

import asyncio
import logging
from functools import partial

from sha_daemon.database import Database, DatabaseConflict, DatabaseError, Session
from sha_daemon.retention import cutoff, rest_seconds
from sha_daemon.samples import Pruned
from telemetry_common.clock import Clock
from telemetry_common.lifecycle import Pulse
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 600.0
"""Between two prunings: often enough that each finds little."""
STEP_ROWS = 500
"""Samples looked at in one transaction: some milliseconds, and a lock that nobody meets."""


class Pruning:
    """`pruned` counts the samples deleted since the start."""

    def __init__(self, database: Database, clock: Clock, retention_days: int, pulse: Pulse) -> None:
        self._database = database
        self._clock = clock
        self._retention_days = retention_days
        self._pulse = pulse
        self._in_trouble = False
        self.pruned = 0

    async def run(self) -> None:
        """Prune at once and every INTERVAL_SECONDS, for ever: a hub that crash-loops prunes, too."""
        while True:
            try:
                await self.prune()
            except DatabaseConflict as error:
                log.debug(fields("pruning left to the hub that was faster", reason=error))
            except DatabaseError as error:
                self._trouble_is(error)
            else:
                self._trouble_is(None)
            self._pulse.beat()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def prune(self) -> None:
        """Delete all that is too old now. Raises DatabaseError; what was deleted until then stays deleted."""
        now = self._clock.wall()
        before = cutoff(now, self._retention_days)
        place: int | None = 0
        while place is not None:
            begun = self._clock.monotonic()
            step = await self._database.run(partial(_step, after=place, before=before, now=now))
            self.pruned += step.deleted
            place = step.go_on_after
            self._pulse.beat()
            await asyncio.sleep(rest_seconds(self._clock.monotonic() - begun))

    def _trouble_is(self, error: DatabaseError | None) -> None:
        """Logged on the edge: when it begins and when it ends."""
        if error is not None and not self._in_trouble:
            log.warning(fields("history is not pruned for now", reason=error))
        elif error is None and self._in_trouble:
            log.info("history is pruned again")
        self._in_trouble = error is not None


def _step(session: Session, after: int, before: float, now: float) -> Pruned:
    return session.history.prune(after, before, now, STEP_ROWS)
