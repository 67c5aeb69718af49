"""The samples on MariaDB, within a transaction: the statements of `history_statements`, and no decision."""

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from sha_daemon import history_statements as statements
from sha_daemon.job_types import JobType
from sha_daemon.records import Sample, storable_id
from sha_daemon.rows import instant, moment, sample
from sha_daemon.samples import Mark, Pruned, Stretch


class Channel(Protocol):
    """A connection within a transaction. Raises DatabaseError only."""

    def execute(self, statement: str, *values: object) -> int:
        """Run it; how many rows it found."""

    def rows(self, statement: str, *values: object) -> Sequence[Sequence[Any]]: ...


class MariaHistory:
    """Implements `samples.Samples`."""

    def __init__(self, link: Channel, kind: JobType) -> None:
        self._link = link
        self._sql = statements.HistoryStatements(kind)

    def count(self, job_id: str, after: Mark, most: int) -> tuple[int, Mark | None]:
        if not storable_id(job_id):
            return 0, None
        last = self._mark(self._sql.mark_after(), job_id, *_place(after), most - 1)
        if last is not None:
            return most, last
        return self._link.rows(self._sql.count_after(), job_id, *_place(after))[0][0], None

    def first(self, job_id: str, limit: int) -> list[Sample]:
        if not storable_id(job_id):
            return []
        return [sample(row) for row in self._link.rows(self._sql.first(), job_id, limit)]

    def stretch(self, job_id: str, after: Mark | None, rows: int) -> Stretch | None:
        start = after or self._mark(self._sql.first_mark(), job_id)
        if start is None:
            return None
        end = self._mark(self._sql.mark_after(), job_id, *_place(start), rows - 1)
        end = end or self._mark(self._sql.last_mark(), job_id)
        if end is None or (after is not None and end <= after):
            return None
        values = (job_id, *_place(start), *_place(end))
        lowest, highest, mixed = self._link.rows(self._sql.stretch(), *values)[0]
        return Stretch(start=start, end=end, lowest=lowest, highest=highest, mixed=bool(mixed))

    def _mark(self, statement: str, job_id: str, *values: object) -> Mark | None:
        found = self._link.rows(statement, job_id, *values) if storable_id(job_id) else ()
        return Mark(*found[0]) if found else None

    def changes(self, job_id: str, stretch: Stretch, limit: int) -> list[int]:
        values = (job_id, *_place(stretch.start), *_place(stretch.end), limit)
        return [row[0] for row in self._link.rows(self._sql.changes(), *values)]

    def chosen(self, job_id: str, row_ids: Collection[int]) -> list[Sample]:
        if not row_ids or not storable_id(job_id):
            return []
        found = self._link.rows(self._sql.chosen(len(row_ids)), *sorted(row_ids), job_id)
        return [sample(row) for row in found]

    def prune(self, after: int, before: float, now: float, rows: int) -> Pruned:
        look = (moment(before), moment(now), after, rows)
        last, first_young = self._link.rows(statements.PRUNE_LOOK, *look)[0]
        if last is None:
            return Pruned(0, None)
        end = last if first_young is None else first_young - 1
        deleted = self._link.execute(statements.PRUNE, after, end, moment(before)) if end > after else 0
        return Pruned(deleted, end if first_young is None else None)


def _place(mark: Mark) -> tuple[object, ...]:
    at = instant(mark.at_ms)
    return at, at, mark.row_id
