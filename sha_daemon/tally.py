"""Plain counts of what became of what was sent, since the start. Counted on the event loop: nobody reads halfway.

The balance, true at every turn of the loop: `accepted` = `stored` + `duplicate` + `stale` + `refused` + `waiting`.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from sha_daemon.batch import Outcome

BATCH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
"""Updates in one transaction."""
COMMIT_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds of one transaction, its second and further attempts included."""
SWEEP_BOUNDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Seconds of one sweep for silent jobs."""


class Distribution:
    """How many values lay at or below each bound and above the one before; the last count is of those above all."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merge(self, other: "Distribution") -> None:
        """Add what `other`, of the same bounds, has."""
        self.counts = [mine + others for mine, others in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


class Tally:
    """The updates of one writer, from the queue to their end; of several in their sum.

    `taken` moves updates from the queue into a transaction; each ends in exactly one of `committed`, `refused` (the
    database takes everything but this) and `unavailable` (it takes nothing).
    """

    def __init__(self) -> None:
        self.accepted = 0
        self.under_way = 0
        self.unavailable = 0
        self.refused_by_database = 0
        self.batch_updates = Distribution(BATCH_BOUNDS)
        self.commit_seconds = Distribution(COMMIT_BOUNDS)
        self._results: Counter[str | None] = Counter()

    def taken(self, updates: int) -> None:
        self.under_way += updates

    def committed(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        if outcomes:
            self.under_way -= len(outcomes)
            self._results.update(outcome.result for outcome in outcomes)
            self.batch_updates.add(len(outcomes))
            self.commit_seconds.add(seconds)

    def gave_up(self, updates: int, *, unavailable: bool) -> None:
        self.under_way -= updates
        if unavailable:
            self.unavailable += updates
        else:
            self.refused_by_database += updates

    def add(self, other: "Tally") -> None:
        self.accepted += other.accepted
        self.under_way += other.under_way
        self.unavailable += other.unavailable
        self.refused_by_database += other.refused_by_database
        self.batch_updates.merge(other.batch_updates)
        self.commit_seconds.merge(other.commit_seconds)
        self._results.update(other._results)

    def ends(self) -> dict[str, int]:
        """How many updates came to which end, by its name."""
        return {
            "stored": self._results["applied"],
            "duplicate": self._results["duplicate"],
            "stale": self._results["stale"],
            "refused_final": self._results["final"],
            "refused_unknown_job": self._results[None],
            "refused_by_database": self.refused_by_database,
            "refused_unavailable": self.unavailable,
        }


class Counted(Protocol):
    """Connections to the hub: how many are open, how many were cut off because they kept it waiting, and until when
    they are shown a valid certificate."""

    cut_off: int

    @property
    def count(self) -> int: ...

    @property
    def certificate_expires(self) -> float | None: ...


class Door:
    """Who comes to the hub: `limit` connections may be open, `turned_away` found no room."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.turned_away = 0
        self.connections: Counted | None = None
