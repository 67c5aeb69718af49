"""The samples of the database's in-memory twin: as MariaDB answers, over dictionaries."""

import itertools
from collections.abc import Collection

from sha_daemon.records import Sample
from sha_daemon.samples import Mark, Pruned, Stretch
from testbed.memory_tables import Tables


class MemoryHistory:
    """Implements `samples.Samples`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def count(self, job_id: str, after: Mark, most: int) -> tuple[int, Mark | None]:
        following = sorted(_mark(sample) for sample in self._of(job_id) if _mark(sample) > after)
        return (most, following[most - 1]) if len(following) >= most else (len(following), None)

    def first(self, job_id: str, limit: int) -> list[Sample]:
        return sorted(self._of(job_id), key=_by_seq)[:limit]

    def stretch(self, job_id: str, after: Mark | None, rows: int) -> Stretch | None:
        samples = sorted(self._of(job_id), key=_mark)
        following = [sample for sample in samples if after is None or _mark(sample) >= after]
        within = following[: rows + 1]
        if not within or _mark(within[-1]) == after:
            return None
        return Stretch(
            start=after or _mark(within[0]),
            end=_mark(within[-1]),
            lowest=_row_id(min(within, key=lambda sample: (sample.transfer_speed_bps, _row_id(sample)))),
            highest=_row_id(min(within, key=lambda sample: (-sample.transfer_speed_bps, _row_id(sample)))),
            mixed=len({_state(sample) for sample in within}) > 1,
        )

    def changes(self, job_id: str, stretch: Stretch, limit: int) -> list[int]:
        samples = sorted(self._of(job_id), key=_mark)
        within = [sample for sample in samples if stretch.start <= _mark(sample) <= stretch.end]
        pairs = itertools.pairwise(within)
        return [_row_id(sample) for before, sample in pairs if _state(before) != _state(sample)][:limit]

    def chosen(self, job_id: str, row_ids: Collection[int]) -> list[Sample]:
        return sorted((sample for sample in self._of(job_id) if sample.row_id in row_ids), key=_by_seq)

    def prune(self, after: int, before: float, now: float, rows: int) -> Pruned:
        looked_at = list(
            itertools.islice((row for row_id, row in self._tables.samples.items() if row_id > after), rows)
        )
        received = list(itertools.takewhile(lambda row: not before <= row.at <= now, looked_at))
        old = [row for row in received if row.at < before]
        self._tables.drop_samples(old)
        done = not looked_at or len(received) < len(looked_at)
        return Pruned(len(old), None if done else _row_id(received[-1]))

    def _of(self, job_id: str) -> Collection[Sample]:
        return self._tables.history.get(job_id, {}).values()


def _row_id(sample: Sample) -> int:
    return sample.row_id or 0


def _mark(sample: Sample) -> Mark:
    return Mark(round(sample.at * 1000), _row_id(sample))


def _state(sample: Sample) -> tuple[str, str]:
    return sample.status, sample.current_phase


def _by_seq(sample: Sample) -> tuple[float, int, int]:
    """Without a `seq` comes first, as NULL does."""
    return sample.at, sample.seq or 0, _row_id(sample)
