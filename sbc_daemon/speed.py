"""How fast a job moves: a rate over the last seconds, smoothed by its own window. Pure; times are monotonic seconds."""

from collections import deque

WINDOW_SECONDS = 15.0
"""The rate covers about this much of the past: long enough to be calm, short enough to follow a change of pace."""
SAMPLE_SECONDS = 1.0
"""Samples are at least this far apart, so that the memory is the same for one line a second and for 100,000."""
MEANINGFUL_SECONDS = 3.0
"""Before this much was seen a rate says more about buffers than about the copy."""
MAX_RATE = 2**63 - 1


class SpeedWindow:
    """Samples of a growing count of bytes, and their rate.

    The first sample is where counting starts: a job met at 40 GB has not moved 40 GB in a second.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self.next_at = float("-inf")
        """Before this time a further sample would add nothing; callers in a hurry look here first."""

    def sample(self, now: float, count: int) -> None:
        """The job stood at `count` bytes at `now`. Times and counts never fall."""
        self._samples.append((now, count))
        self.next_at = now + SAMPLE_SECONDS
        # One sample from before the window stays: it is where the window begins.
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW_SECONDS:
            self._samples.popleft()

    def rate(self, now: float, count: int) -> int | None:
        """Bytes per second over the window that ends at `now` with `count` bytes; None until it means something."""
        if not self._samples:
            return None
        since = max(self._samples[0][0], now - WINDOW_SECONDS)
        if now - since < MEANINGFUL_SECONDS:
            return None
        moved = count - self._count_at(since, (now, count))
        return min(MAX_RATE, max(0, int(moved / (now - since))))

    def _count_at(self, time: float, last: tuple[float, int]) -> float:
        """The count at `time`, on the straight line between the samples around it.

        After a long silence this spreads the news over it, instead of taking minutes of it for one burst.
        """
        before = self._samples[0]
        for after in (*self._samples, last):
            if after[0] > time:
                return before[1] + (after[1] - before[1]) * (time - before[0]) / (after[0] - before[0])
            before = after
        return before[1]


def eta(done: int, total: int, rate: int | None) -> int | None:
    """Whole seconds until `total`, rounded up; None where nobody can know (no total, no rate, standing still)."""
    if total <= 0 or not rate:
        return 0 if 0 < total <= done else None
    return max(0, -((done - total) // rate))
