"""What must be true of the hub's rows, whatever was killed: all that was acknowledged is there, nothing else is, in
order. Pure: the producers' ledger on one side, rows on the other; each sentence of the answer is a violation.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from soak.ledger import Book, Ledger

UNTOUCHED = "pending"
"""What the engine made of a job that nobody has reported on yet."""


class JobRow(Struct, frozen=True):
    status: str
    bytes_transferred: int
    progress_percent: float
    error_message: str | None
    seq: int | None
    disks: tuple[tuple[str, int], ...]
    """(status, bytes) of each."""


class Sample(Struct, frozen=True):
    seq: int
    status: str
    phase: str
    bytes_transferred: int
    progress_percent: float


def violations(ledger: Ledger, rows: Mapping[str, JobRow], samples: Mapping[str, Sequence[Sample]]) -> list[str]:
    """`samples` of each job in the order of their `seq`."""
    found = [f"a line was refused: {reason}" for reason in ledger.refused]
    for job_id in rows.keys() | samples.keys() | ledger.jobs.keys():
        row, book = rows.get(job_id), ledger.jobs.get(job_id)
        if row is None:
            found.append(f"{job_id}: its row is gone")
        elif book is None:
            found += [f"{job_id}: {wrong}" for wrong in _untouched(row, samples.get(job_id, ()))]
        else:
            found += [f"{job_id}: {wrong}" for wrong in _of_job(book, row, samples.get(job_id, ()))]
    return found


def _untouched(row: JobRow, samples: Sequence[Sample]) -> Iterator[str]:
    if row.status != UNTOUCHED or row.bytes_transferred or samples:
        yield f"nobody reported on it, and it is {row} with {len(samples)} samples"


def _of_job(book: Book, row: JobRow, samples: Sequence[Sample]) -> Iterator[str]:
    yield from _end(book, row)
    yield from _changes(book, samples)
    yield from _order(samples)
    if samples and row.seq != samples[-1].seq:
        yield f"the row's seq is {row.seq}, the last sample's {samples[-1].seq}"


def _end(book: Book, row: JobRow) -> Iterator[str]:
    """The acknowledged end is the job's end, with its figures."""
    end = book.end
    if end is None or not end.acknowledged:
        return
    if (row.status, row.bytes_transferred, row.error_message) != (end.status, end.bytes_transferred, end.error):
        yield f"its acknowledged end was {end}, and its row is {row}"
    if end.status == "completed" and row.progress_percent != 100:
        yield f"it is completed at {row.progress_percent} percent"
    ended = "completed" if end.status == "completed" else "failed"
    disks = (end.bytes_transferred // 2, end.bytes_transferred - end.bytes_transferred // 2)[: book.disks]
    if row.disks != tuple((ended, moved) for moved in disks):
        yield f"its disks are {row.disks}"


def _changes(book: Book, samples: Sequence[Sample]) -> Iterator[str]:
    """Every acknowledged change arrived, none that was never said, and all in the order in which they were said."""
    phases = [sample.phase for sample in samples]
    entered = [phase for n, phase in enumerate(phases) if n == 0 or phases[n - 1] != phase]
    if missing := [phase for phase in book.acknowledged if phase not in entered]:
        yield f"acknowledged and lost: {missing}; the hub had {entered}"
    if entered != [phase for phase in book.phases if phase in entered]:
        yield f"said in the order {book.phases}, delivered as {entered}"
    invented = [s for s in samples if (s.phase, s.bytes_transferred) not in book.said]
    if invented:
        yield f"never said: {invented[:3]}"


def _order(samples: Sequence[Sample]) -> Iterator[str]:
    for before, after in pairwise(samples):
        if after.bytes_transferred < before.bytes_transferred or after.progress_percent < before.progress_percent:
            yield f"went backwards from {before} to {after}"
        if before.status in ("completed", "failed", "cancelled") and after.status != before.status:
            yield f"an end was undone by {after}"
