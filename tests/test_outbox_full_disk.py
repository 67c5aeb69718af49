"""An outbox on a disk that is full, or refuses every write: what is told, what is kept, what does not come back."""

import resource
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import pytest

from sbc_daemon.outbox import OutboxFull
from sbc_daemon.outbox_file import NAME
from sbc_daemon.outbox_sqlite import SqliteOutbox
from tests.support.balance import assert_balanced
from tests.support.messages import end, message, progress, record
from tests.support.outboxes import MIB, sqlite_outbox, written
from tests.support.small_disk import SmallDisk, failing_writes
from tests.support.small_disk import small_disk as mounted
from tests.support.virtual_clock import VirtualClock


class SmallFiles(SmallDisk):
    """In place of a mount, where that needs rights we lack: a limit on the size of our files."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (640 << 10, self._before[1]))

    def grow(self, size: str) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """1 MiB."""
    with mounted(tmp_path / "disk", "1m") as disk:
        if disk is not None:
            yield disk
            return
        limited = SmallFiles(tmp_path / "disk")
        yield limited
        limited.grow("")


def ours(disk: SmallDisk) -> bool:
    """Whether room that we give up is ours again; not so under a mere limit."""
    return not isinstance(disk, SmallFiles)


@pytest.fixture
async def crowded(small_disk: SmallDisk) -> AsyncIterator[SqliteOutbox]:
    """An outbox with a cap above what its disk holds."""
    outbox = SqliteOutbox(small_disk.path / "state", 4 * MIB, VirtualClock())
    await outbox.open()
    yield outbox
    await assert_balanced(outbox)
    await outbox.close()


async def fill(outbox: SqliteOutbox) -> tuple[int, str]:
    for n in range(10_000):
        try:
            await outbox.keep([message(n + 1, job=f"filler-{n}", size=2000)], [], synced=True)
        except OutboxFull as full:
            return n, str(full)
    raise AssertionError("the disk never filled")


async def test_a_full_disk_is_told_as_such_and_the_news_goes_out_from_memory(crowded: SqliteOutbox) -> None:
    kept, reason = await fill(crowded)
    assert "cannot write" in reason
    assert "cap" not in reason
    entry = await crowded.first(f"filler-{kept}")
    assert entry is not None
    assert entry.message.seq == kept + 1


async def test_on_a_full_disk_what_is_delivered_does_not_come_back(crowded: SqliteOutbox) -> None:
    kept, _ = await fill(crowded)
    for n in range(kept):
        entry = await crowded.first(f"filler-{n}")
        assert entry is not None
        await crowded.delivered(entry)
        assert await crowded.first(f"filler-{n}") is None


async def test_even_without_the_reserve_what_is_delivered_does_not_come_back(
    crowded: SqliteOutbox, small_disk: SmallDisk
) -> None:
    (small_disk.path / "state" / "outbox.reserve").unlink()
    kept, _ = await fill(crowded)
    for n in range(kept):
        entry = await crowded.first(f"filler-{n}")
        assert entry is not None
        await crowded.delivered(entry)
    assert (await crowded.figures()).states == 0
    with sqlite3.connect(small_disk.path / "state" / NAME) as file:
        assert file.execute("SELECT count(*) FROM entry").fetchone()[0] > 0
    file.close()
    assert [await crowded.first(f"filler-{n}") for n in range(kept)] == [None] * kept


async def test_what_was_delivered_makes_room_for_more(crowded: SqliteOutbox, small_disk: SmallDisk) -> None:
    kept, _ = await fill(crowded)
    if not ours(small_disk):
        small_disk.grow("2m")
    for n in range(kept):
        entry = await crowded.first(f"filler-{n}")
        assert entry is not None
        await crowded.delivered(entry)
    await crowded.keep([end(99_999, "filler-0"), progress(100_000, "new")], [record("new")], synced=True)
    figures = await crowded.figures()
    assert (figures.states, figures.progress) == (1, 1)


async def test_a_full_disk_that_gets_room_is_used_again(crowded: SqliteOutbox, small_disk: SmallDisk) -> None:
    kept, _ = await fill(crowded)
    small_disk.grow("2m")
    await crowded.keep([message(99_999, job="new", size=2000)], [record("new")], synced=True)
    assert (await crowded.figures()).states == kept + 1


async def refused(change: Awaitable[object]) -> str:
    try:
        await change
    except OutboxFull as full:
        return str(full)
    return ""


async def test_while_every_write_fails_it_is_told_and_nothing_is_lost_or_comes_back(tmp_path: Path) -> None:
    outbox = sqlite_outbox(tmp_path)
    await outbox.open()
    await outbox.keep([message(1), message(2), message(3, job="other")], [], synced=True)
    with failing_writes():
        words = [
            await refused(outbox.keep([message(4)], [record()], synced=True)),
            await refused(outbox.raise_ceiling(9)),
        ]
        delivered = await outbox.first("job-1")
        await outbox.delivered(*([delivered] if delivered else []))
        following = await outbox.first("job-1")
        figures = await outbox.figures()
    assert ["cannot write" in said for said in words] == [True, True]
    assert following is not None
    assert following.message.seq == 2
    assert (figures.states, figures.in_memory, figures.ledger.delivered) == (2, 1, 1)
    assert figures.ledger.waiting == figures.waiting
    await outbox.keep([message(5)], [record()], synced=True)
    await assert_balanced(outbox)
    await outbox.close()
    again = sqlite_outbox(tmp_path)
    await again.open()
    seqs = []
    while entry := await again.first("job-1"):
        seqs.append(entry.message.seq)
        await again.delivered(entry)
    assert seqs == [2, 5]
    await again.close()


async def test_it_starts_on_a_full_disk(small_disk: SmallDisk) -> None:
    await written(small_disk.path / "state")
    small_disk.fill()
    outbox = sqlite_outbox(small_disk.path / "state")
    await outbox.open()
    await outbox.waiting()
    small_disk.make_room()
    assert len(await outbox.waiting()) == 50
    await outbox.keep([message(999, job="after")], [], synced=True)
    await outbox.close()


async def test_what_was_kept_goes_out_from_a_disk_that_was_full_at_the_start(small_disk: SmallDisk) -> None:
    """The reserve gives SQLite the room that it needs to read; on a disk of which our room is not ours it cannot."""
    await written(small_disk.path / "state")
    small_disk.fill()
    outbox = sqlite_outbox(small_disk.path / "state")
    await outbox.open()
    waiting = await outbox.waiting()
    await outbox.close()
    assert len(waiting) == 50 or not ours(small_disk)
