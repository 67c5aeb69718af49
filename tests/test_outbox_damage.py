"""Whatever lies where the outbox should be, and whatever the disk does: the daemon starts and goes on."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sbc_daemon.outbox import Opened, OutboxFull
from sbc_daemon.outbox_file import NAME
from sbc_daemon.outbox_sqlite import SqliteOutbox
from tests.support.balance import assert_balanced
from tests.support.messages import message
from tests.support.outboxes import MIB, sqlite_outbox, written
from tests.support.virtual_clock import VirtualClock


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
