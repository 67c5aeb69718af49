"""A chart's samples, of short histories and of long ones that are read in stretches: on both implementations."""

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from sha_daemon.database import Session
from sha_daemon.history import SHORT, History, HistoryReader
from sha_daemon.records import Sample
from sha_daemon.thinning import MAX_POINTS, thin
from tests.support.databases import Prepared, running
from tests.support.samples import add, sample, series

T = TypeVar("T")
LONG = SHORT + 500


async def chart(prepared: Prepared, samples: Sequence[Sample], points: int = MAX_POINTS) -> History:
    prepared.add_job(running("job-1"))
    await add(prepared, series([1, 2, 3], job="job-2"))
    await add(prepared, samples)
    found = await HistoryReader().read(prepared.database, "job-1", points)
    assert found is not None
    assert {s.job_id for s in found.samples} <= {"job-1"}
    return found


def phases(samples: Sequence[Sample]) -> list[tuple[float, str]]:
    pairs = itertools.pairwise(samples)
    return [(after.at, after.current_phase) for before, after in pairs if before.current_phase != after.current_phase]


async def test_there_is_none_of_a_job_that_is_not_known(prepared: Prepared) -> None:
    await add(prepared, [sample(1)])
    prepared.add_job(running("Job-1"))
    for job_id in ("job-1", "job-1 ", "\ud800", ""):
        assert await HistoryReader().read(prepared.database, job_id, 512) is None


async def test_a_job_without_samples_has_an_empty_one(prepared: Prepared) -> None:
    assert await chart(prepared, []) == History(0, [])


@pytest.mark.parametrize("count", [1, 2, 512, SHORT])
async def test_a_short_history_is_thinned_by_the_rule_and_nothing_else(prepared: Prepared, count: int) -> None:
    samples = series(random.Random(count).choices(range(1000), k=count), ["a", "b", "c"])
    found = await chart(prepared, samples)
    assert found.stored == count
    assert [s.seq for s in found.samples] == [s.seq for s in thin(samples, MAX_POINTS)]


@pytest.mark.parametrize("points", [2, 4, 100, 512])
async def test_a_long_history_keeps_ends_phases_and_peaks(prepared: Prepared, points: int) -> None:
    values = [random.Random(n).randrange(100, 200) for n in range(LONG)]
    values[717:720], values[2142] = [0] * 3, 900
    samples = series(values, ["snapshot", "transferring", "snapshot", "transferring", "finalizing"])
    found = await chart(prepared, samples, points)
    assert (found.stored, len(found.samples)) == (LONG, points)
    assert (found.samples[0].seq, found.samples[-1].seq) == (1, LONG)
    if points > 2:
        assert {0, 900} <= {s.transfer_speed_bps for s in found.samples}
    if points > 4:
        assert phases(found.samples) == phases(samples)


async def test_every_phase_of_a_long_history_stays_however_short(prepared: Prepared) -> None:
    samples = series([100] * LONG)
    for n in range(40, LONG, 37):
        samples[n] = sample(5 * n, 100, "blink", seq=n + 1)
    found = await chart(prepared, samples)
    assert phases(found.samples) == phases(samples)


async def test_a_long_history_of_nothing_but_changes_is_spread_over_its_time(prepared: Prepared) -> None:
    values = [100] * LONG
    values[717], values[2142] = 0, 900
    found = await chart(prepared, series(values, ["a", "b"] * (LONG // 2)))
    assert MAX_POINTS / 3 < len(found.samples) <= MAX_POINTS
    assert {0, 900} <= {s.transfer_speed_bps for s in found.samples}
    gaps = [after.at - before.at for before, after in itertools.pairwise(found.samples)]
    assert max(gaps) <= 5 * LONG / 100


async def test_every_standstill_of_a_long_history_shows(prepared: Prepared) -> None:
    values = [0 if n % 60 == 30 else 100 for n in range(LONG)]
    found = await chart(prepared, series(values))
    assert sum(s.transfer_speed_bps == 0 for s in found.samples) == values.count(0)


async def test_a_long_history_all_at_one_moment_can_be_read(prepared: Prepared) -> None:
    """A sender whose ages are beyond all bounds: every event lies in 1970."""
    found = await chart(prepared, [sample(0, speed=n, seq=n + 1) for n in range(LONG)])
    assert MAX_POINTS / 3 < len(found.samples) <= MAX_POINTS
    assert {0, LONG - 1} <= {s.transfer_speed_bps for s in found.samples}


async def test_other_readers_have_their_turn_while_a_long_history_is_read(prepared: Prepared) -> None:
    await chart(prepared, series(range(LONG)))
    turns: list[str] = []

    class Watched:
        """Counts the transactions of the one who reads the history."""

        async def run(self, work: Callable[[Session], T]) -> T:
            turns.append("chart")
            await asyncio.sleep(0)
            return await prepared.database.run(work)

        async def close(self) -> None:
            """Not ours to close."""

    reading = asyncio.create_task(HistoryReader().read(Watched(), "job-1", 512))
    while not reading.done():
        turns.append("other")
        await prepared.database.run(lambda session: session.job("job-1"))
        await asyncio.sleep(0)
    chart_turns = [number for number, turn in enumerate(turns) if turn == "chart"]
    assert len(chart_turns) > 8
    assert all(after - before > 1 for before, after in itertools.pairwise(chart_turns))
