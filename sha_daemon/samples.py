"""What was reported of jobs over time, as the hub reads it back and lets it go. Part of a `database.Session`.

The samples of a job have one order: event time, then the order in which they came in. A long history is read in
stretches of that order, a few at a time, so that nobody who shares the connection waits for the whole of it.
"""

from collections.abc import Collection
from typing import Protocol

from msgspec import Struct

from sha_daemon.records import Sample


class Mark(Struct, frozen=True, order=True):
    """The place of one sample in its job's order: event time in Unix milliseconds, then the row's id."""

    at_ms: int
    row_id: int


BEFORE_ALL = Mark(0, 0)


class Stretch(Struct, frozen=True, kw_only=True):
    """Neighbouring samples from `start` to `end`, both included; a stretch starts where the one before it ends.

    `lowest` and `highest` are the rows of the least and the greatest transfer speed (of equal ones the first that came
    in). `mixed`: not all of its samples are of one status and phase.
    """

    start: Mark
    end: Mark
    lowest: int
    highest: int
    mixed: bool


class Pruned(Struct, frozen=True):
    """One step of pruning: how many samples it deleted, and after which row the next one begins; None: all is done."""

    deleted: int
    go_on_after: int | None


class Samples(Protocol):
    """Job ids are compared exactly; a job that is not known has no samples."""

    def count(self, job_id: str, after: Mark, most: int) -> tuple[int, Mark | None]:
        """How many samples follow `after`: `most` and the place of the last of these, or fewer and None."""

    def first(self, job_id: str, limit: int) -> list[Sample]:
        """The first `limit` samples, by (event time, `seq`)."""

    def stretch(self, job_id: str, after: Mark | None, rows: int) -> Stretch | None:
        """From `after` (from the first sample for None) to the `rows`-th after it, or to the last; None: no more."""

    def changes(self, job_id: str, stretch: Stretch, limit: int) -> list[int]:
        """The first `limit` rows of the stretch whose status or phase is another than that of the row before."""

    def chosen(self, job_id: str, row_ids: Collection[int]) -> list[Sample]:
        """These rows, by (event time, `seq`); one that has gone meanwhile is left out."""

    def prune(self, after: int, before: float, now: float, rows: int) -> Pruned:
        """Of up to `rows` samples received after row `after`, delete those with an event time earlier than `before`.

        Rows are looked at in the order in which they were received, and no further than to the first one whose event
        time lies between `before` and `now`: whatever came in after it is not older by its receipt. An event time
        beyond `now` (from a clock that was ahead) proves nothing, and is passed over.
        """
