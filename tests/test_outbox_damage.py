"""Whatever lies where the outbox should be, and whatever the disk does: the daemon starts and goes on."""

import asyncio
import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from msgspec import Struct

from sbc_daemon.outbox import Opened, OutboxFull
from sbc_daemon.outbox_file import NAME
from sbc_daemon.outbox_sqlite import SqliteOutbox
from tests.support.balance import assert_balanced
from tests.support.messages import end, message, progress, record
from tests.support.virtual_clock import VirtualClock

MIB = 1 << 20


def sqlite_outbox(directory: Path) -> SqliteOutbox:
    return SqliteOutbox(directory, MIB, VirtualClock(wall=1_760_000_000.0))


async def written(directory: Path) -> Path:
    """A sound outbox with something in it; its file."""
    outbox = sqlite_outbox(directory)
    await outbox.open()
    await outbox.keep([message(n + 1, job=f"job-{n}") for n in range(50)], [record()], synced=True)
    await outbox.close()
    return directory / NAME


async def start_and_use(directory: Path) -> Opened:
    """The start must succeed, and the outbox must work after it."""
    outbox = sqlite_outbox(directory)
    opened = await outbox.open()
    await outbox.keep([message(999, job="after")], [], synced=True)
    assert "after" in await outbox.waiting()
    await outbox.close()
    return opened


def truncate(file: Path) -> None:
    with file.open("r+b") as data:
        data.truncate(file.stat().st_size // 2 + 100)


def scribble(file: Path) -> None:
    with file.open("r+b") as data:
        data.seek(4096 * 2)
        data.write(os.urandom(4096))


def other_tables(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE entry (something TEXT)")
    connection.close()


def newer_version(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def directory_in_its_place(file: Path) -> None:
    file.unlink()
    (file / "inside").mkdir(parents=True)


def link_in_its_place(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/null")


def directory_as_log(file: Path) -> None:
    file.with_name(NAME + "-wal").mkdir()


DAMAGES: list[Callable[[Path], object]] = [
    truncate,
    scribble,
    lambda file: file.write_bytes(b"no database at all " * 500),
    other_tables,
    newer_version,
    directory_in_its_place,
    link_in_its_place,
    directory_as_log,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
async def test_a_damaged_outbox_is_moved_aside_with_the_date(damage: Callable[[Path], object], tmp_path: Path) -> None:
    damage(await written(tmp_path))
    opened = await start_and_use(tmp_path)
    assert opened.moved_aside == "outbox.db.damaged-2025-10-09T08-53-20Z"
    assert os.path.lexists(tmp_path / opened.moved_aside)
    assert opened.jobs == ()


async def test_an_outbox_of_version_1_is_taken_up_with_all_that_is_in_it(tmp_path: Path) -> None:
    before = sqlite_outbox(tmp_path)
    await before.open()
    await before.keep([message(1)], [], synced=True)
    await before.close()
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as file:
        file.executescript("DROP TABLE survivor; PRAGMA user_version=1;")
    outbox = sqlite_outbox(tmp_path)
    found = await outbox.open()
    assert (found.waiting, found.moved_aside, found.survivors) == (("job-1",), None, {})
    await outbox.remember({"connection-1": b"one"}, [])
    await outbox.close()


async def test_an_empty_file_is_a_new_outbox(tmp_path: Path) -> None:
    (await written(tmp_path)).write_bytes(b"")
    assert (await start_and_use(tmp_path)).moved_aside is None


async def test_garbage_in_the_log_costs_nothing_that_was_checkpointed(tmp_path: Path) -> None:
    file = await written(tmp_path)
    file.with_name(NAME + "-wal").write_bytes(os.urandom(10_000))
    file.with_name(NAME + "-shm").write_bytes(os.urandom(10_000))
    opened = await start_and_use(tmp_path)
    assert len(opened.waiting) == 50


async def test_side_files_go_aside_with_the_damaged_file(tmp_path: Path) -> None:
    directory_in_its_place(await written(tmp_path))
    (tmp_path / (NAME + "-wal")).write_bytes(b"left over")
    opened = await start_and_use(tmp_path)
    assert (tmp_path / f"{opened.moved_aside}-wal").read_bytes() == b"left over"


async def test_only_a_few_damaged_files_are_kept(tmp_path: Path) -> None:
    for _ in range(6):
        scribble(await written(tmp_path))
    await start_and_use(tmp_path)
    aside = [file for file in tmp_path.iterdir() if "damaged" in file.name]
    assert len(aside) == 3


async def test_damage_found_while_running_begins_anew_above_the_same_ceiling(tmp_path: Path) -> None:
    outbox = SqliteOutbox(tmp_path, 16 * MIB, VirtualClock())
    await outbox.open()
    await outbox.raise_ceiling(777)
    await outbox.keep([message(n, job=f"job-{n}", size=4000) for n in range(1, 1000)], [], synced=True)
    await outbox.close()
    outbox = SqliteOutbox(tmp_path, 16 * MIB, VirtualClock())
    await outbox.open()
    (tmp_path / NAME).write_bytes(os.urandom(8 * MIB))
    await asyncio.gather(*(outbox.first(f"job-{n}") for n in range(1, 1000)))
    await outbox.keep([message(1000)], [], synced=True)
    figures = await assert_balanced(outbox)
    assert figures.moved_aside == 1
    assert figures.ledger.lost + figures.ledger.dead == 999
    await outbox.close()
    opened = await start_and_use(tmp_path)
    assert (opened.seq_ceiling, opened.waiting) == (777, ("job-1",))


@pytest.mark.parametrize("step", [0, 1, 2, 3])
async def test_truncated_at_any_length_it_starts(step: int, tmp_path: Path) -> None:
    whole = (await written(tmp_path / "whole")).read_bytes()
    for length in range(step * 1024, len(whole), 4096 + 512):
        directory = tmp_path / str(length)
        directory.mkdir()
        (directory / NAME).write_bytes(whole[:length])
        await start_and_use(directory)


async def test_a_message_that_cannot_be_read_is_a_dead_letter_and_holds_up_no_other(tmp_path: Path) -> None:
    file = await written(tmp_path)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE entry SET message = X'7B' WHERE job_id = 'job-1'")
    connection.close()
    outbox = sqlite_outbox(tmp_path)
    await outbox.open()
    await outbox.keep([message(100, job="job-1")], [], synced=True)
    entry = await outbox.first("job-1")
    assert entry is not None
    assert entry.message.seq == 100
    assert "cannot be read" in (await outbox.dead_letters())[0].reason
    await outbox.close()


async def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    outbox = sqlite_outbox(tmp_path / "state")
    await outbox.open()
    await outbox.keep([message()], [], synced=True)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "state").iterdir()}
    await outbox.close()
    assert modes == {NAME: 0o600, NAME + "-wal": 0o600, NAME + "-shm": 0o600, "outbox.reserve": 0o600}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


async def test_without_a_directory_it_starts_and_says_why_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    outbox = sqlite_outbox(tmp_path / "file" / "state")
    assert (await outbox.open()).jobs == ()
    with pytest.raises(OutboxFull, match=r"cannot open .*outbox.db: Not a directory"):
        await outbox.keep([message()], [], synced=True)
    assert await outbox.first("job-1") is not None
    assert (await outbox.figures()).in_memory == 1
    await outbox.close()


async def test_a_directory_that_appears_later_is_used(tmp_path: Path) -> None:
    await written(tmp_path / "real")
    (tmp_path / "mount").write_text("not there yet")
    outbox = sqlite_outbox(tmp_path / "mount")
    assert (await outbox.open()).waiting == ()
    (tmp_path / "mount").unlink()
    shutil.move(tmp_path / "real", tmp_path / "mount")
    assert len(await outbox.waiting()) == 50
    await outbox.close()


class SmallDisk(Struct, frozen=True):
    """`grow` gives it room; `ours` is whether room that we give up is ours again (not so under a mere limit)."""

    path: Path
    ours: bool
    grow: Callable[[], object]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 1 MiB, of its own mount; where that needs rights we lack, a limit on the size of our files."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)]
    if shutil.which("mount") and subprocess.run(command, capture_output=True).returncode == 0:
        yield SmallDisk(mount, True, lambda: subprocess.run(["mount", "-o", "remount,size=2m", mount], check=True))
        subprocess.run(["umount", "--lazy", str(mount)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (640 << 10, before[1]))
    yield SmallDisk(mount, False, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


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
    if not small_disk.ours:
        small_disk.grow()
    for n in range(kept):
        entry = await crowded.first(f"filler-{n}")
        assert entry is not None
        await crowded.delivered(entry)
    await crowded.keep([end(99_999, "filler-0"), progress(100_000, "new")], [record("new")], synced=True)
    figures = await crowded.figures()
    assert (figures.states, figures.progress) == (1, 1)


async def test_a_full_disk_that_gets_room_is_used_again(crowded: SqliteOutbox, small_disk: SmallDisk) -> None:
    kept, _ = await fill(crowded)
    small_disk.grow()
    await crowded.keep([message(99_999, job="new", size=2000)], [record("new")], synced=True)
    assert (await crowded.figures()).states == kept + 1


@contextmanager
def failing_writes() -> Iterator[None]:
    """Every write of this process to a file fails in the kernel (EFBIG): an I/O error to SQLite."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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
    ballast = small_disk.path / "ballast"
    with ballast.open("wb", buffering=0) as data, suppress(OSError):
        while data.write(b"x" * 4096):
            pass
    outbox = sqlite_outbox(small_disk.path / "state")
    await outbox.open()
    await outbox.waiting()
    ballast.unlink()
    assert len(await outbox.waiting()) == 50
    await outbox.keep([message(999, job="after")], [], synced=True)
    await outbox.close()


async def test_what_was_kept_goes_out_from_a_disk_that_was_full_at_the_start(small_disk: SmallDisk) -> None:
    """The reserve gives SQLite the room that it needs to read; on a disk of which our room is not ours it cannot."""
    await written(small_disk.path / "state")
    ballast = small_disk.path / "ballast"
    with ballast.open("wb", buffering=0) as data, suppress(OSError):
        while data.write(b"x" * 4096):
            pass
    outbox = sqlite_outbox(small_disk.path / "state")
    await outbox.open()
    waiting = await outbox.waiting()
    await outbox.close()
    assert len(waiting) == 50 or not small_disk.ours
