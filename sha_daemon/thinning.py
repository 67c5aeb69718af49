"""Which samples of a job its chart is drawn from, where there are more than it can show. Pure.

What must not vanish comes first: the ends; the lowest and the highest transfer speed (a standstill is a lowest); the
first sample of every new status or phase. What room is left is shared out over the job's time: it is cut into parts of
equally many samples, and of each part the lowest and the highest speed stay. Parts are equal by number, not by the
clock, so that one sample with a wrong time cannot squeeze all others into one part.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from sha_daemon.records import Sample

T = TypeVar("T")
MIN_POINTS = 2
MAX_POINTS = 512


def thin(samples: Sequence[Sample], points: int) -> list[Sample]:
    """At most `points` (MIN_POINTS or more) of these samples, in the same order; all where they are no more than that.

    Where changes of status and phase alone are too many, evenly many of them stay over the whole time.
    """
    if len(samples) <= points:
        return list(samples)
    kept = set(_outermost(samples)[:points])
    kept |= set(evenly([index for index in _changes(samples) if index not in kept], points - len(kept)))
    kept |= set(_extremes(samples, (points - len(kept)) // 2))
    kept |= set(evenly([index for index in range(len(samples)) if index not in kept], points - len(kept)))
    return [samples[index] for index in sorted(kept)]


def evenly(items: Sequence[T], count: int) -> Sequence[T]:
    """`count` of these at equal distances, the first among them; all where they are no more."""
    return items if len(items) <= count else [items[number * len(items) // count] for number in range(count)]


def _outermost(samples: Sequence[Sample]) -> list[int]:
    """First and last, lowest and highest, in the order of what must stay, each once."""
    every = range(len(samples))
    return list(dict.fromkeys([every[0], every[-1], _lowest(samples, every), _highest(samples, every)]))


def _changes(samples: Sequence[Sample]) -> Iterator[int]:
    for index in range(1, len(samples)):
        before, sample = samples[index - 1], samples[index]
        if (sample.status, sample.current_phase) != (before.status, before.current_phase):
            yield index


def _extremes(samples: Sequence[Sample], parts: int) -> Iterator[int]:
    """The lowest and the highest of each of so many parts."""
    for part in range(parts):
        within = range(part * len(samples) // parts, (part + 1) * len(samples) // parts)
        yield _lowest(samples, within)
        yield _highest(samples, within)


def _lowest(samples: Sequence[Sample], within: range) -> int:
    return min(within, key=lambda index: samples[index].transfer_speed_bps)


def _highest(samples: Sequence[Sample], within: range) -> int:
    return max(within, key=lambda index: samples[index].transfer_speed_bps)
