"""How fast a job moves: a rate over the last seconds that neither jumps nor lingers. Pure; times are monotonic seconds.

The rate is the slope of the straight line that fits the window best (least squares): the middle of the window weighs
most and its ends nothing, so that a burst fades in and out instead of jumping in and falling out.
"""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

WINDOW_SECONDS = 15.0
"""The rate covers this much of the past: long enough to be calm, short enough to follow a change of pace."""
SAMPLE_SECONDS = 1.0
"""Samples are at least this far apart, so that the memory is the same for one line a second and for 100,000."""
MEANINGFUL_SECONDS = 3.0
"""Before this much was seen a rate says more about buffers than about the copy."""
STALL_SECONDS = 5.0
"""Bytes that stand still for longer are a stall: nobody can say when it ends."""
LONGEST_HOLD_SECONDS = 300.0
"""A tool that only tells whole percents of a huge disk may grow once in minutes; more is not believed of any."""
MAX_RATE = 2**63 - 1

Knot = tuple[float, int]
"""The job stood at so many bytes at this time."""


class Pace(NamedTuple):
    """`rate` in bytes per second, None until it means something. `steady`: no stall within the window, so that a time
    of arrival can be told."""

    rate: int | None
    steady: bool


UNKNOWN = Pace(None, steady=False)


class SpeedWindow:
    """Samples of a growing count of bytes, and their rate.

    The first line is where counting starts: a job met at 40 GB has not moved 40 GB in a second.
    """

    def __init__(self) -> None:
        self._samples: deque[Knot] = deque()
        self.next_at = float("-inf")
        """Before this time a further sample would add nothing; callers in a hurry look here first."""

    def sample(self, now: float, count: int) -> None:
        """A line said that the job stood at `count` bytes at `now`. Times and counts never fall.

        What counts is when it was said, so a line is sampled when the next one comes: only then is it known that it was
        the last for a while.
        """
        self._samples.append((now, count))
        self.next_at = now + SAMPLE_SECONDS
        # One sample from before the window stays: it is where the window begins.
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW_SECONDS:
            self._samples.popleft()

    def pace(self, now: float, count: int, heard_at: float) -> Pace:
        """The pace at `now` of a job that was last heard of at `heard_at`, when it stood at `count` bytes.

        Between two samples it moved evenly: what came after a long silence is spread over it, and is no burst. Since it
        was last heard of it stands still, so that after a window the rate is 0.
        """
        knots = _knots(self._samples, heard_at, count)
        end = now - _hold(knots, now)
        since = max(knots[0][0], end - WINDOW_SECONDS)
        if end - since < MEANINGFUL_SECONDS:
            return UNKNOWN
        return _pace([*knots, (now, count)], since, end)


def _knots(samples: Sequence[Knot], heard_at: float, count: int) -> list[Knot]:
    """The samples, and what was last heard where that is newer."""
    knots = list(samples)
    if knots and heard_at <= knots[-1][0]:
        knots.pop()
    return [*knots, (heard_at, count)]


def _hold(knots: Sequence[Knot], now: float) -> float:
    """How long the pace of the last growth still holds.

    Growth that took long to be told (a percent of a huge disk) is no stall before as much time has passed again.
    """
    for before, after in zip(reversed(knots[:-1]), reversed(knots), strict=False):
        if after[1] > before[1]:
            took = after[0] - before[0]
            return min(took, now - after[0], LONGEST_HOLD_SECONDS) if took > STALL_SECONDS else 0.0
    return 0.0


def _pace(knots: Sequence[Knot], since: float, end: float) -> Pace:
    """Over the stretch from `since` to `end`, each part of it with its weight."""
    rate, weighed = 0.0, 0.0
    still, longest_still = 0.0, 0.0
    for (begun, low), (ended, high) in pairwise(knots):
        if ended <= since or ended <= begun or begun >= end:
            continue
        share = _weight((min(ended, end) - since) / (end - since))
        rate += (high - low) / (ended - begun) * (share - weighed)
        weighed = share
        still = 0.0 if high > low else still + min(ended, end) - max(begun, since)
        longest_still = max(longest_still, still)
    return Pace(min(MAX_RATE, max(0, round(rate))), longest_still <= STALL_SECONDS)


def _weight(part: float) -> float:
    """What the first `part` (0 to 1) of the window weighs of the whole: the integral of 6x(1-x)."""
    return part * part * (3 - 2 * part)


def eta(done: int, total: int, rate: int | None) -> int | None:
    """Whole seconds until `total`, rounded up; None where nobody can know: no total or one that was wrong, no rate,
    standing still."""
    if done == total > 0:
        return 0
    if total < done or not rate:
        return None
    return -((done - total) // rate)
