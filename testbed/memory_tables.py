"""What the database's in-memory twin stores, and what MariaDB's columns would make of a value on its way in."""

import math
import unicodedata
from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from sha_daemon.records import Disk, Job, JobView, Sample
from sha_daemon.rows import LAST_TIMESTAMP


class Listening(Struct, frozen=True):
    """The one row of the listening clock; `advanced_at` is by the database's own clock."""

    listened_us: int
    advanced_at: float


class Tables:
    """What is stored. Every change can be taken back until `forget_changes`.

    `history` are the samples by job, `samples` the same ones by the order in which they were received.
    """

    def __init__(self, now: float) -> None:
        self.jobs: dict[str, JobView] = {}
        self.history: dict[str, dict[int, Sample]] = {}
        self.samples: dict[int, Sample] = {}
        self.listening = Listening(0, now)
        self._last_row_id = 0
        self._last_sample_id = 0
        self._undo: list[Callable[[], object]] = []

    def next_row_id(self) -> int:
        """As AUTO_INCREMENT: never given out again, also where the transaction is undone."""
        self._last_row_id += 1
        return self._last_row_id

    def put_job(self, view: JobView) -> None:
        job_id = view.job.job_id
        before = self.jobs.get(job_id)
        self._undo.append(lambda: self.jobs.pop(job_id) if before is None else self.jobs.update({job_id: before}))
        self.jobs[job_id] = view

    def put_sample(self, sample: Sample) -> None:
        """Unique by job and `seq`; one without a `seq` is always another."""
        if sample.seq is not None and sample.seq in self.history.get(sample.job_id, {}):
            return
        self._last_sample_id += 1
        row = structs.replace(sample, row_id=self._last_sample_id)
        self._undo.append(lambda: self._take_out(row))
        self._put_in(row)

    def drop_samples(self, rows: Sequence[Sample]) -> None:
        self._undo.append(lambda: self._put_back(rows))
        for row in rows:
            self._take_out(row)

    def _put_in(self, row: Sample) -> None:
        self.history.setdefault(row.job_id, {})[_key(row)] = row
        self.samples[row.row_id or 0] = row

    def _take_out(self, row: Sample) -> None:
        del self.samples[row.row_id or 0]
        samples = self.history[row.job_id]
        del samples[_key(row)]
        if not samples:
            del self.history[row.job_id]

    def _put_back(self, rows: Sequence[Sample]) -> None:
        """In the order in which they were received, as all others."""
        for row in rows:
            self._put_in(row)
        self.samples = dict(sorted(self.samples.items()))
        for job_id in {row.job_id for row in rows}:
            received = sorted(self.history[job_id].values(), key=lambda row: row.row_id or 0)
            self.history[job_id] = {_key(row): row for row in received}

    def put_listening(self, listening: Listening) -> None:
        before = self.listening
        self._undo.append(lambda: setattr(self, "listening", before))
        self.listening = listening

    def take_back(self) -> None:
        while self._undo:
            self._undo.pop()()

    def forget_changes(self) -> None:
        self._undo.clear()


def _key(row: Sample) -> int:
    """Within the samples of a job: its `seq`, which is above 0; without one, its id below 0."""
    return row.seq if row.seq is not None else -(row.row_id or 0)


def as_stored(job: Job) -> Job:
    """What the columns of backup_jobs make of these values."""
    return structs.replace(
        job,
        progress_percent=round(job.progress_percent, 2),
        started_at=_timestamp(job.started_at),
        completed_at=_timestamp(job.completed_at),
        last_telemetry_at=_whole(job.last_telemetry_at),
        watchdog_failed_at=_whole(job.watchdog_failed_at),
    )


def sample_as_stored(sample: Sample) -> Sample:
    """What the columns of telemetry_history make of these values."""
    at, percent = math.floor(sample.at * 1000) / 1000, round(sample.progress_percent, 2)
    return structs.replace(sample, at=at, progress_percent=percent)


def disk_as_stored(disk: Disk) -> Disk:
    """What the columns of backup_disks make of these values."""
    at, percent = _timestamp(disk.completed_at), round(disk.progress_percent, 2)
    return structs.replace(disk, completed_at=at, progress_percent=percent)


def folded(name: str) -> str:
    """As the columns' collation compares letters: neither case nor accents make a difference."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _timestamp(at: float | None) -> float | None:
    return None if at is None else min(max(1, math.floor(at)), LAST_TIMESTAMP)


def _whole(at: float | None) -> float | None:
    return None if at is None else math.floor(at)
