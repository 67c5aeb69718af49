"""Samples read back and let go: one suite for both implementations of `Database`."""

import pytest
from msgspec import structs

from sha_daemon.database import Session
from sha_daemon.records import Sample
from sha_daemon.samples import BEFORE_ALL, Mark, Pruned, Stretch
from tests.support.databases import Prepared
from tests.support.samples import START, add, sample, series


async def first(prepared: Prepared, job_id: str = "job-1", limit: int = 100) -> list[Sample]:
    return await prepared.database.run(lambda session: session.history.first(job_id, limit))


async def stretches(prepared: Prepared, rows: int, job_id: str = "job-1") -> list[Stretch]:
    found: list[Stretch] = []
    while True:
        after = found[-1].end if found else None
        more = await prepared.database.run(lambda s, after=after: s.history.stretch(job_id, after, rows))  # type: ignore[misc]
        if more is None:
            return found
        found.append(more)


async def times(prepared: Prepared, row_ids: list[int]) -> list[float]:
    chosen = await prepared.database.run(lambda session: session.history.chosen("job-1", row_ids))
    return [found.at - START for found in chosen]


async def test_every_column_of_a_sample_comes_back_as_it_was_written(prepared: Prepared) -> None:
    full = Sample(
        job_id="job-1",
        at=1_760_000_000.123,
        status="failed",
        current_phase="Finalizing ä 😀",
        bytes_transferred=2**63 - 1,
        total_bytes=2**63 - 1,
        transfer_speed_bps=2**63 - 1,
        progress_percent=99.99,
        seq=2**63 - 1,
        producer_time="2025-10-10T14:23:45+02:00",
    )
    await add(prepared, [full])
    assert [structs.replace(found, row_id=None) for found in await first(prepared)] == [full]


async def test_samples_come_by_event_time_then_seq_whatever_the_order_of_their_receipt(prepared: Prepared) -> None:
    at = [(2, 9), (1, 8), (2, 7), (1, None), (0.5, 10), (2, None)]
    for second, seq in at:
        await add(prepared, [sample(second, seq=seq)])
    assert [(s.at - START, s.seq) for s in await first(prepared)] == [
        (0.5, 10),
        (1, None),
        (1, 8),
        (2, None),
        (2, 7),
        (2, 9),
    ]
    assert [s.seq for s in await first(prepared, limit=2)] == [10, None]


async def test_samples_are_of_exactly_that_job(prepared: Prepared) -> None:
    for job_id in ("job-ä", "JOB-Ä", "job-a", "job-ä "):
        await add(prepared, [sample(1, job=job_id), sample(2, job=job_id)])
    for job_id, count in (("job-ä", 2), ("job-A", 0), ("", 0), ("\ud800", 0), ("x" * 65, 0)):
        assert await counted(prepared, job_id, BEFORE_ALL, 10) == (count, None)
        assert {s.job_id for s in await first(prepared, job_id)} == ({job_id} if count else set())
        assert len(await stretches(prepared, 10, job_id)) == (1 if count else 0)


async def counted(prepared: Prepared, job_id: str, after: Mark, most: int) -> tuple[int, Mark | None]:
    return await prepared.database.run(lambda session: session.history.count(job_id, after, most))


async def test_samples_are_counted_a_few_at_a_time(prepared: Prepared) -> None:
    await add(prepared, [sample(n // 4) for n in range(9)])
    after, counts = BEFORE_ALL, []
    while True:
        count, last = await counted(prepared, "job-1", after, 3)
        counts.append(count)
        if last is None:
            break
        after = last
    assert counts == [3, 3, 3, 0]
    assert await counted(prepared, "job-1", BEFORE_ALL, 10) == (9, None)


async def test_a_row_of_another_job_is_not_given_out(prepared: Prepared) -> None:
    await add(prepared, [sample(1), sample(2, job="job-2")])
    (other,) = await first(prepared, "job-2")
    assert await times(prepared, [other.row_id or 0, 10**15]) == []


async def test_stretches_touch_each_other_and_leave_nothing_out(prepared: Prepared) -> None:
    await add(prepared, series(range(1, 24)))
    found = await stretches(prepared, 10)
    assert [(s.start.at_ms / 1000 - START, s.end.at_ms / 1000 - START) for s in found] == [
        (0, 50),
        (50, 100),
        (100, 110),
    ]
    assert [await times(prepared, [s.lowest, s.highest]) for s in found] == [[0, 50], [50, 100], [100, 110]]


async def test_a_single_sample_is_a_stretch(prepared: Prepared) -> None:
    await add(prepared, [sample(1)])
    (found,) = await stretches(prepared, 10)
    assert (found.start, found.lowest, found.mixed) == (found.end, found.highest, False)


async def test_many_samples_of_the_same_time_are_told_apart(prepared: Prepared) -> None:
    await add(prepared, [sample(1, speed=n, seq=n + 1) for n in range(25)])
    found = await stretches(prepared, 10)
    rows = [s.start.row_id for s in found] + [found[-1].end.row_id]
    assert len(found) == 3
    assert rows == sorted(set(rows))


async def test_of_equal_extremes_the_first_received_counts(prepared: Prepared) -> None:
    limit = 2**63 - 1
    await add(prepared, series([7, 0, limit, 0, limit, 7]))
    (found,) = await stretches(prepared, 10)
    assert await times(prepared, [found.lowest]) == [5]
    assert await times(prepared, [found.highest]) == [10]


async def test_a_change_is_found_within_a_stretch_and_at_its_border(prepared: Prepared) -> None:
    phases = ["snapshot"] * 10 + ["Snapshot"] * 5 + ["transferring"] * 10
    await add(prepared, [sample(n, phase=phase) for n, phase in enumerate(phases)])
    await add(prepared, [sample(25, phase="transferring", status="completed")])
    found = await stretches(prepared, 9)
    assert [s.mixed for s in found] == [False, True, True]
    changes = [await prepared.database.run(lambda d, s=s: d.history.changes("job-1", s, 10)) for s in found]  # type: ignore[misc]
    assert [await times(prepared, rows) for rows in changes] == [[], [10, 15], [25]]
    first_only = await prepared.database.run(lambda session: session.history.changes("job-1", found[1], 1))
    assert await times(prepared, first_only) == [10]


async def prune(prepared: Prepared, before: float, now: float = 1000, rows: int = 100, after: int = 0) -> Pruned:
    return await prepared.database.run(lambda s: s.history.prune(after, START + before, START + now, rows))


async def left(prepared: Prepared) -> list[float]:
    return [s.at - START for s in await first(prepared)]


async def test_what_is_old_is_deleted_and_the_rest_stays(prepared: Prepared) -> None:
    await add(prepared, [sample(n) for n in range(10)])
    assert await prune(prepared, before=4) == Pruned(4, None)
    assert await left(prepared) == [4, 5, 6, 7, 8, 9]
    assert await prune(prepared, before=4) == Pruned(0, None)


async def test_pruning_goes_on_where_a_step_ended(prepared: Prepared) -> None:
    await add(prepared, [sample(n) for n in range(10)])
    step = await prune(prepared, before=100, rows=4)
    assert (step.deleted, await left(prepared)) == (4, [4, 5, 6, 7, 8, 9])
    step = await prune(prepared, before=100, rows=4, after=step.go_on_after or 0)
    step = await prune(prepared, before=100, rows=4, after=step.go_on_after or 0)
    assert (step.deleted, await left(prepared)) == (2, [])
    assert await prune(prepared, before=100, rows=4, after=step.go_on_after or 0) == Pruned(0, None)


async def test_what_came_in_late_stays_as_long_after_its_receipt_as_others(prepared: Prepared) -> None:
    await add(prepared, [sample(1), sample(50), sample(2), sample(60)])
    assert await prune(prepared, before=40) == Pruned(1, None)
    assert await left(prepared) == [2, 50, 60]
    assert await prune(prepared, before=55) == Pruned(2, None)
    assert await left(prepared) == [60]


async def test_a_sample_of_a_clock_that_was_ahead_blocks_nothing(prepared: Prepared) -> None:
    await add(prepared, [sample(5000), sample(1), sample(6000), sample(2), sample(900)])
    assert await prune(prepared, before=100, rows=2) == Pruned(1, 2)
    assert await prune(prepared, before=100) == Pruned(1, None)
    assert await left(prepared) == [900, 5000, 6000]


async def test_a_pruning_that_fails_leaves_everything_in_its_order(prepared: Prepared) -> None:
    await add(prepared, [sample(n, job=f"job-{n % 2 + 1}", seq=n + 1) for n in range(6)])

    def broken(session: Session) -> None:
        session.history.prune(0, START + 3, START + 1000, 10)
        raise KeyError("a fault in the work")

    with pytest.raises(KeyError):
        await prepared.database.run(broken)
    assert [moved for _, _, moved in prepared.history("job-1")] == [0, 2000, 4000]
    assert await prune(prepared, before=3) == Pruned(3, None)
