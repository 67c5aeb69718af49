"""A hub that is away for long: what an outbox holds grows with the jobs, and not with the outage."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from sbc_daemon import outbox_room
from sbc_daemon.outbox import Figures, Outbox, OutboxFull
from sbc_daemon.outbox_sqlite import SqliteOutbox
from testbed.memory_outbox import MemoryOutbox
from tests.support.balance import assert_balanced
from tests.support.messages import end, message, progress, record
from tests.support.virtual_clock import VirtualClock

MIB = 1 << 20
HOUR, DAY = 3600.0, 86400.0
Make = Callable[..., Outbox]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    count = iter(range(99))
    if request.param == "memory":
        return lambda max_bytes=64 * MIB: MemoryOutbox(max_bytes)
    return lambda max_bytes=64 * MIB: SqliteOutbox(tmp_path / f"state-{next(count)}", max_bytes, VirtualClock())


async def outage(outbox: Outbox, jobs: int, seconds: float, step: float) -> Figures:
    """Each of the jobs begins, then says where it is every `step` seconds; nothing is delivered."""
    names = [f"backup-{n}" for n in range(jobs)]
    await outbox.keep([message(n + 1, job=job) for n, job in enumerate(names)], [], synced=True)
    for turn in range(1, int(seconds / step) + 1):
        said = [progress(jobs * turn + n + 1, job, at=turn * step) for n, job in enumerate(names)]
        await outbox.keep(said, [record(job, snapshot=b"x" * 300) for job in names], synced=False)
    return await assert_balanced(outbox)


async def lived(make: Make, jobs: int, seconds: float, step: float) -> Figures:
    outbox = make()
    await outbox.open()
    figures = await outage(outbox, jobs, seconds, step)
    await outbox.close()
    return figures


async def test_twice_the_jobs_take_twice_the_room(make: Make) -> None:
    few, many = [await lived(make, jobs, 180.0, 60.0) for jobs in (200, 400)]
    assert 1.8 < many.bytes_used / few.bytes_used < 2.2
    assert (many.states, many.progress, many.samples) == (400, 400, 800)


async def test_a_month_without_the_hub_takes_no_more_room_than_some_days(make: Make) -> None:
    days, month = await lived(make, 2, 12 * DAY, 0.5 * HOUR), await lived(make, 2, 30 * DAY, 0.5 * HOUR)
    assert month.samples <= 2 * outbox_room.MAX_SAMPLES
    assert month.bytes_used < 2.2 * days.bytes_used
    assert (month.states, month.progress) == (2, 2)


async def test_the_samples_of_a_long_outage_are_evenly_apart(make: Make) -> None:
    outbox = make()
    await outbox.open()
    await outage(outbox, 1, 10 * DAY, 600.0)
    times = []
    while entry := await outbox.first("backup-0"):
        if entry.message.kind == "sample":
            times.append(entry.message.taken.boot)
        await outbox.delivered(entry)
    await outbox.close()
    apart = [later - earlier for earlier, later in pairwise(times)]
    assert 256 <= len(times) <= outbox_room.MAX_SAMPLES
    assert times[0] <= 600.0
    assert times[-1] > 9.9 * DAY
    assert max(apart) <= 4 * min(apart)


async def test_in_the_first_hours_there_is_one_sample_a_minute(make: Make) -> None:
    figures = await lived(make, 1, 5 * HOUR, 20.0)
    assert 298 <= figures.samples <= 300


async def test_room_is_made_by_samples_the_oldest_first_and_never_by_states_or_progress(make: Make) -> None:
    outbox = make(MIB)
    await outbox.open()
    await outage(outbox, 3, 60 * 100.0, 60.0)
    before = await outbox.figures()
    kept = 0
    for n in range(10_000):
        try:
            await outbox.keep([message(10_000 + n, job=f"filler-{n}", size=2000)], [], synced=False)
        except OutboxFull:
            break
        kept += 1
        if (await outbox.figures()).samples < before.samples // 2:
            break
    after = await assert_balanced(outbox)
    assert after.states == before.states + kept
    assert after.progress == before.progress
    left = []
    while entry := await outbox.first("backup-0"):
        left += [entry.message.taken.boot] if entry.message.kind == "sample" else []
        await outbox.delivered(entry)
    assert left == [60.0 * turn for turn in range(100 - len(left), 100)]
    assert 20 < len(left) < 50
    await outbox.close()


async def test_ends_find_room_also_after_a_month(make: Make) -> None:
    outbox = make(MIB)
    await outbox.open()
    await outage(outbox, 20, 30 * DAY, 6 * HOUR)
    for n in range(20):
        await outbox.keep([end(900_000 + n, f"backup-{n}")], [record(f"backup-{n}", ended=True)], synced=True)
    figures = await assert_balanced(outbox)
    assert figures.states == 40
    assert figures.bytes_used <= MIB
    await outbox.close()
