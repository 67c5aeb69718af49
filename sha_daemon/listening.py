"""The listening clock: how long this hub, or any hub on its database, has been able to hear.

One row in the database holds the reading. Every few seconds a hub adds the lesser of what it listened itself and what
passed on the database's clock since the last addition: several hubs count each second once, a stepped clock counts for
nothing, and a hub that crash-loops still gets on. Time in which the hub could not have heard is not added: while it is
down, suspended or stuck (a turn of its loop that came late counts for nothing), while it turns senders away, while the
database takes no writes (an addition that fails is dropped).
"""

import asyncio
import logging
from collections.abc import Callable

from sha_daemon.database import Database, DatabaseError
from telemetry_common.clock import Clock
from telemetry_common.lifecycle import Pulse

log = logging.getLogger(__name__)

TURN_SECONDS = 1.0
"""Between two turns of the loop."""
LATE_SECONDS = 2.0
"""After the turn before: whoever is later than this was not listening meanwhile."""
ADVANCE_SECONDS = 5.0
"""Between two additions to the row."""


class ListeningClock:
    def __init__(self, database: Database, clock: Clock, can_hear: Callable[[], bool], pulse: Pulse) -> None:
        self._database = database
        self._clock = clock
        self._can_hear = can_hear
        self._pulse = pulse
        self._last_turn = clock.monotonic()
        self._own_us = 0
        self._reading_us = 0
        self._advancing = asyncio.Lock()

    def estimate_us(self, listened_us: int = 0) -> int:
        """The reading now, as far as this hub knows without asking; `listened_us` is what the row has just said.

        With what this hub has yet to add: a job heard now must not be dated by when the last addition was.
        """
        return max(self._reading_us, listened_us) + self._own_us + int(min(self._since_turn(), LATE_SECONDS) * 1e6)

    async def run(self) -> None:
        """For ever: count this hub's listening in turns, and add it to the row now and then."""
        await self._advance_or_drop()
        turns = 0
        while True:
            await asyncio.sleep(TURN_SECONDS)
            self._pulse.beat()
            self._turn()
            turns += 1
            if turns * TURN_SECONDS >= ADVANCE_SECONDS:
                turns = 0
                await self._advance_or_drop()

    async def advance(self) -> int:
        """Add what was listened; the new reading in microseconds. Raises DatabaseError, and then it is dropped."""
        async with self._advancing:
            self._turn()
            own = self._own_us
            try:
                # Nothing listened, nothing added: time that another hub has yet to add must not be used up.
                self._reading_us = await self._database.run(
                    lambda session: session.advance_listening(own) if own else session.listening_us()
                )
            finally:
                self._own_us -= own
            return self._reading_us

    async def _advance_or_drop(self) -> None:
        try:
            await self.advance()
        except DatabaseError as error:
            log.debug("listened time dropped: %s", error)

    def _turn(self) -> None:
        since = self._since_turn()
        if self._can_hear() and since <= LATE_SECONDS:
            self._own_us += int(since * 1e6)
        self._last_turn = self._clock.monotonic()

    def _since_turn(self) -> float:
        return self._clock.monotonic() - self._last_turn
