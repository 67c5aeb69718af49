"""For how long the world's hubs could have heard: what their listening clock is held against."""

from simulation.loop import VirtualLoop

UNNOTICED_SECONDS = 7.0
"""For so long a hub may not know that its database is away: it adds what it has listened to every 5 s."""

_AFTER_A_STEP_SECONDS = 60.0


class Ears:
    """For how long somebody could have heard.

    `sharp` counts every moment in which a hub listened and had no reason to doubt its database: no hub may count more.
    `dull` leaves out what lies around every disturbance: any hub must count at least that.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._open = 0
        self._unknowing_until = float("inf")
        self._since = 0.0
        self._sharp = 0.0
        self._dull = 0.0
        self._deaf_until = 0.0
        self._stepped_at = float("-inf")

    def clock_stepped(self) -> None:
        """One of a hub's or of its database's: for a moment nobody can say what is within 5 s."""
        self._stepped_at = self._loop.now
        self.disturbed()

    @property
    def stepped_lately(self) -> bool:
        return self._loop.now - self._stepped_at < _AFTER_A_STEP_SECONDS

    def opened(self) -> None:
        self._count()
        self._open += 1
        self.disturbed()

    def closed(self) -> None:
        self._count()
        self._open -= 1
        self.disturbed()

    def database(self, *, there: bool) -> None:
        self._count()
        self._unknowing_until = float("inf") if there else self._loop.now + UNNOTICED_SECONDS
        self.disturbed()

    def disturbed(self, seconds: float = 15.0) -> None:
        """Something failed: what a hub has counted lately, or counts now, may be dropped."""
        self._count()
        self._dull -= 10.0
        self._deaf_until = max(self._deaf_until, self._loop.now + seconds)

    @property
    def sharp(self) -> float:
        self._count()
        return self._sharp

    @property
    def dull(self) -> float:
        self._count()
        return self._dull

    def _count(self) -> None:
        now = self._loop.now
        if self._open > 0:
            self._sharp += max(0.0, min(now, self._unknowing_until) - self._since)
        if self._open > 0 and self._unknowing_until == float("inf"):
            self._dull += max(0.0, now - max(self._since, self._deaf_until))
        self._since = now
