"""A job's samples for its chart: all of a short history, of a long one those that must not vanish.

A job of 30 days has half a million samples. The database finds the notable ones, stretch by stretch, and only those are
loaded. After a few stretches the connection is free for other readers, and one long history is read at a time, so
that nobody waits for more than a moment.
"""

import asyncio
from functools import partial

from msgspec import Struct

from sha_daemon.database import Database, Session
from sha_daemon.records import Sample
from sha_daemon.samples import BEFORE_ALL, Mark, Stretch
from sha_daemon.thinning import MAX_POINTS, thin

SHORT = 2000
"""Samples that are loaded as they are: a job of nearly three hours."""
STRETCHES = MAX_POINTS // 2
"""Of a long history. Each is as long as what two points of the chart stand for: its lowest and its highest speed."""
COUNT_ROWS = 50_000
TURN_ROWS = 8000
TURN_STRETCHES = 32
"""What is counted or looked at in one transaction, at most: it takes some 20 ms."""


class History(Struct, frozen=True):
    """`stored` is how many samples there are, `samples` those of them that were asked for, in order."""

    stored: int
    samples: list[Sample]


class HistoryReader:
    def __init__(self) -> None:
        self._long = asyncio.Semaphore(1)

    async def read(self, database: Database, job_id: str, points: int) -> History | None:
        """At most `points` samples of the job; None if there is no such job. Raises DatabaseError."""
        short = await database.run(lambda session: _short(session, job_id))
        if short is None:
            return None
        if isinstance(short, Mark):
            async with self._long:
                return await _read_long(database, job_id, short, points)
        return History(len(short), thin(short, points))


def _short(session: Session, job_id: str) -> list[Sample] | Mark | None:
    """All samples of a short history; the place up to which a long one was counted; None if there is no such job."""
    if session.job(job_id) is None:
        return None
    _, last = session.history.count(job_id, BEFORE_ALL, SHORT + 1)
    return last or session.history.first(job_id, SHORT)


async def _read_long(database: Database, job_id: str, counted: Mark, points: int) -> History:
    stored = SHORT + 1
    last: Mark | None = counted
    while last is not None:
        more, last = await database.run(partial(_count_on, job_id=job_id, after=last))
        stored += more
    return History(stored, thin(await _notable(database, job_id, stored, points), points))


def _count_on(session: Session, job_id: str, after: Mark) -> tuple[int, Mark | None]:
    return session.history.count(job_id, after, COUNT_ROWS)


async def _notable(database: Database, job_id: str, stored: int, points: int) -> list[Sample]:
    """The ends of every stretch, its lowest and highest speed, and all changes of status and phase."""
    rows = -(-stored // STRETCHES)
    stretches = await _survey(database, job_id, rows)
    wanted = {row for s in stretches for row in (s.start.row_id, s.end.row_id, s.lowest, s.highest)}
    wanted |= set(await _changes(database, job_id, stretches, rows, points))
    return await database.run(lambda session: session.history.chosen(job_id, wanted))


async def _survey(database: Database, job_id: str, rows: int) -> list[Stretch]:
    """All stretches of so many rows. Samples that come in meanwhile cannot make it endless."""
    found: list[Stretch] = []
    while len(found) <= STRETCHES:
        last = found[-1] if found else None
        more = await database.run(partial(_following, job_id=job_id, last=last, rows=rows))
        if not more:
            break
        found += more
    return found


def _following(session: Session, job_id: str, last: Stretch | None, rows: int) -> list[Stretch]:
    """A few stretches behind the last one; none at the end."""
    found: list[Stretch] = []
    while len(found) < _at_once(rows):
        last = session.history.stretch(job_id, last.end if last else None, rows)
        if last is None:
            break
        found.append(last)
    return found


async def _changes(database: Database, job_id: str, stretches: list[Stretch], rows: int, points: int) -> list[int]:
    """Every change, or none where they are more than the chart has points: then the stretches alone tell enough."""
    found: list[int] = []
    mixed = [stretch for stretch in stretches if stretch.mixed]
    for begin in range(0, len(mixed), _at_once(rows)):
        some = mixed[begin : begin + _at_once(rows)]
        found += await database.run(partial(_changes_in, job_id=job_id, stretches=some, limit=points + 1))
        if len(found) > points:
            return []
    return found


def _changes_in(session: Session, job_id: str, stretches: list[Stretch], limit: int) -> list[int]:
    return [row for stretch in stretches for row in session.history.changes(job_id, stretch, limit)]


def _at_once(rows: int) -> int:
    """How many stretches of so many rows are looked at in one transaction."""
    return max(1, min(TURN_STRETCHES, TURN_ROWS // rows))
