"""Complaints about senders, at most one a minute each, with the number of those that were kept back."""

import logging
from collections.abc import Hashable

from telemetry_common.clock import Clock
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 60.0
MAX_SENDERS = 1024
"""Senders remembered; while so many complain within a minute, further ones are only counted."""


class Complaints:
    """Counts all, logs a few. `total` is for status and metrics."""

    def __init__(self, clock: Clock) -> None:
        self.total = 0
        self._clock = clock
        self._last: dict[Hashable, tuple[float, int]] = {}

    def about(self, sender: Hashable, event: str, **values: object) -> None:
        """Log `event` as a warning unless `sender` was complained about within the last minute."""
        self.total += 1
        now = self._clock.monotonic()
        logged_at, kept_back = self._last.get(sender, (float("-inf"), 0))
        if now - logged_at < INTERVAL_SECONDS:
            self._last[sender] = (logged_at, kept_back + 1)
            return
        if sender not in self._last and not self._room(now):
            return
        self._last[sender] = (now, 0)
        log.warning(fields(event, **values, more_since_last_said=kept_back or None))

    def _room(self, now: float) -> bool:
        if len(self._last) >= MAX_SENDERS:
            self._last = {who: seen for who, seen in self._last.items() if now - seen[0] < INTERVAL_SECONDS}
        return len(self._last) < MAX_SENDERS
