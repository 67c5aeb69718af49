"""The outbox's file is deleted, moved or replaced while it is open: what is in it goes over, and a start finds it."""

import logging
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from sbc_daemon.outbox import Opened, OutboxFull, StateDirectoryHeld
from sbc_daemon.outbox_file import COPY_AGAIN_SECONDS, NAME
from sbc_daemon.outbox_sqlite import SqliteOutbox
from tests.support.balance import assert_balanced
from tests.support.messages import message, progress, record
from tests.support.outboxes import MIB, sqlite_outbox, written
from tests.support.small_disk import failing_writes
from tests.support.virtual_clock import VirtualClock

LOG = f"{NAME}-wal"
ASIDE = f"{NAME}.damaged-2025-10-09T08-53-20Z"


def unlinked(state: Path) -> None:
    (state / NAME).unlink()


def all_unlinked(state: Path) -> None:
    for file in state.iterdir():
        file.unlink()


def directory_removed(state: Path) -> None:
    shutil.rmtree(state)


def directory_moved(state: Path) -> None:
    state.rename(state.with_name("elsewhere"))
    state.mkdir()


def renamed(state: Path) -> None:
    (state / NAME).rename(state / "outbox.db.old")


def log_removed(state: Path) -> None:
    (state / LOG).unlink()


def log_of_another(state: Path) -> None:
    (state / LOG).unlink()
    (state / LOG).write_bytes(b"a log of something else" * 1000)


def directory_in_its_place(state: Path) -> None:
    (state / NAME).unlink()
    (state / NAME / "inside").mkdir(parents=True)


def link_in_its_place(state: Path) -> None:
    (state / NAME).rename(state / "real.db")
    (state / NAME).symlink_to("real.db")


def another_database(state: Path) -> None:
    (state / NAME).unlink()
    with closing(sqlite3.connect(state / NAME)) as other:
        other.execute("CREATE TABLE other (text TEXT)")


def a_backup_restored(state: Path) -> None:
    shutil.copy(state / NAME, state / "backup")
    (state / "backup").rename(state / NAME)


Lose = Callable[[Path], None]
LOST: list[Lose] = [unlinked, all_unlinked, directory_removed, directory_moved, renamed, log_removed]
REPLACED: list[Lose] = [
    log_of_another,
    directory_in_its_place,
    link_in_its_place,
    another_database,
    a_backup_restored,
]
SOME: list[Lose] = [unlinked, directory_removed, log_removed, another_database]


def each(losses: list[Lose]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("lose", losses, ids=lambda lose: lose.__name__)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


async def filled(state: Path) -> SqliteOutbox:
    """With something of each kind in it; of the job a state waits (2), and progress (3)."""
    outbox = sqlite_outbox(state)
    await outbox.open()
    await outbox.raise_ceiling(777)
    await outbox.remember({"connection-1": b"one"}, [])
    await outbox.keep([message(1), message(2), progress(3), message(4, job="other")], [record()], synced=True)
    refused = await outbox.first("other")
    assert refused is not None
    await outbox.reject(refused, 400, "no", 1.0)
    delivered = await outbox.first("job-1")
    assert delivered is not None
    await outbox.delivered(delivered)
    return outbox


@pytest.fixture
async def outbox(state: Path) -> AsyncIterator[SqliteOutbox]:
    """`filled`; its books balance at the end."""
    outbox = await filled(state)
    yield outbox
    await assert_balanced(outbox)
    await outbox.close()


async def after_a_kill(state: Path, tmp_path: Path) -> tuple[Opened, list[int], int]:
    """What another process would find if this one were killed now: the start, what is sent of the job, the letters."""
    shutil.copytree(state, tmp_path / "killed", symlinks=True)
    again = sqlite_outbox(tmp_path / "killed")
    opened, seqs = await again.open(), []
    while entry := await again.first("job-1"):
        seqs.append(entry.message.seq)
        await again.delivered(entry)
    letters = len(await again.dead_letters())
    await again.close()
    return opened, seqs, letters


def said(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [line.levelno for line in caplog.records if "deleted or moved" in line.getMessage()]


@each([*LOST, *REPLACED])
async def test_what_is_kept_after_a_loss_is_found_with_all_before_it(
    lose: Lose, outbox: SqliteOutbox, state: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lose(state)
    for seq in (5, 6):
        await outbox.keep([message(seq)], [record()], synced=True)
    opened, seqs, letters = await after_a_kill(state, tmp_path)
    assert (seqs, letters) == ([2, 5, 6, 3], 1)
    assert (opened.seq_ceiling, opened.survivors) == (777, {"connection-1": b"one"})
    assert [job.job_id for job in opened.jobs] == ["job-1"]
    assert opened.moved_aside is None
    assert said(caplog) == [logging.WARNING]


@each([*LOST, *REPLACED])
async def test_an_empty_outbox_that_is_lost_goes_on(lose: Lose, state: Path, tmp_path: Path) -> None:
    outbox = sqlite_outbox(state)
    await outbox.open()
    lose(state)
    await outbox.keep([message(1)], [], synced=True)
    assert (await after_a_kill(state, tmp_path))[1] == [1]
    await outbox.close()


@each(SOME)
async def test_an_idle_sidecar_finds_a_loss_by_itself(
    lose: Lose, outbox: SqliteOutbox, state: Path, tmp_path: Path
) -> None:
    lose(state)
    figures = await outbox.figures()
    assert (figures.states, figures.progress, figures.ledger.lost) == (1, 1, 0)
    assert (await after_a_kill(state, tmp_path))[1] == [2, 3]


@each(SOME)
async def test_after_a_clean_stop_everything_is_found(lose: Lose, state: Path) -> None:
    outbox = await filled(state)
    lose(state)
    await outbox.close()
    again = sqlite_outbox(state)
    assert (await again.open()).waiting == ("job-1",)
    await again.close()


async def test_what_is_on_its_way_meanwhile_is_delivered_and_forgotten(outbox: SqliteOutbox, state: Path) -> None:
    on_its_way = await outbox.first("job-1")
    assert on_its_way is not None
    directory_removed(state)
    await outbox.keep([message(5)], [], synced=True)
    await outbox.delivered(on_its_way)
    following = await outbox.first("job-1")
    assert following is not None
    assert following.message.seq == 5


@each(REPLACED)
async def test_what_somebody_put_in_its_place_is_moved_aside(lose: Lose, outbox: SqliteOutbox, state: Path) -> None:
    lose(state)
    name = LOG if lose is log_of_another else NAME
    put = os.lstat(state / name)
    await outbox.keep([message(5)], [], synced=True)
    aside = os.lstat(state / name.replace(NAME, ASIDE))
    assert os.path.samestat(put, aside)
    assert (await outbox.figures()).moved_aside == 1


@each(LOST)
async def test_nothing_of_ours_stays_behind(lose: Lose, outbox: SqliteOutbox, state: Path) -> None:
    lose(state)
    await outbox.keep([message(5)], [], synced=True)
    names = {file.name for file in state.iterdir()} - {"outbox.db.old"}
    assert names == {NAME, LOG, f"{NAME}-shm", "outbox.reserve"}
    assert (state / NAME).stat().st_mode & 0o777 == 0o600


async def test_lost_again_and_again_nothing_is_missing(outbox: SqliteOutbox, state: Path, tmp_path: Path) -> None:
    for seq, lose in enumerate([*LOST, *REPLACED], 5):
        if lose is not directory_moved:
            lose(state)
        await outbox.keep([message(seq)], [], synced=True)
    assert (await after_a_kill(state, tmp_path))[1] == [2, *range(5, 5 + len(LOST) + len(REPLACED)), 3]


@each([unlinked, directory_removed, directory_moved])
async def test_a_second_daemon_is_refused_after_a_loss_as_before(lose: Lose, outbox: SqliteOutbox, state: Path) -> None:
    lose(state)
    await outbox.keep([message(5)], [], synced=True)
    second = sqlite_outbox(state)
    with pytest.raises(StateDirectoryHeld):
        await second.open()
    await second.close()


async def test_where_another_daemon_was_faster_nothing_of_it_is_touched(outbox: SqliteOutbox, state: Path) -> None:
    directory_removed(state)
    second = sqlite_outbox(state)
    await second.open()
    await second.keep([message(1, job="theirs")], [], synced=True)
    with pytest.raises(OutboxFull, match=r"cannot be made anew: cannot use .*: another sbc-daemon has it"):
        await outbox.keep([message(5)], [], synced=True)
    await second.keep([message(2, job="theirs")], [], synced=True)
    assert (await assert_balanced(second)).states == 2
    await second.close()


async def test_without_a_directory_it_is_told_and_all_that_is_held_still_goes_out(
    outbox: SqliteOutbox, state: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory_removed(state)
    state.write_text("in the way")
    for seq in (5, 6):
        with pytest.raises(OutboxFull, match=r"outbox\.db was deleted or moved, and cannot be made anew: File exists"):
            await outbox.keep([message(seq)], [record()], synced=True)
    assert said(caplog) == [logging.ERROR]
    figures = await assert_balanced(outbox)
    assert (figures.states, figures.progress, figures.in_memory) == (1, 1, 1)
    delivered = await outbox.first("job-1")
    assert delivered is not None
    await outbox.delivered(delivered)
    newest = await outbox.first("job-1")
    assert newest is not None
    assert (delivered.message.seq, newest.message.seq) == (2, 6)
    state.unlink()
    await outbox.keep([message(7)], [], synced=True)
    assert (await after_a_kill(state, tmp_path))[1] == [7, 3]


async def test_damage_in_the_lost_file_is_found_in_its_copy(state: Path) -> None:
    outbox = SqliteOutbox(state, 16 * MIB, VirtualClock())
    await outbox.open()
    await outbox.keep([message(n, job=f"job-{n}", size=4000) for n in range(1, 1000)], [], synced=True)
    await outbox.close()
    again = SqliteOutbox(state, 16 * MIB, VirtualClock())
    await again.open()
    (state / NAME).write_bytes(os.urandom(8 * MIB))
    unlinked(state)
    await again.keep([message(1000)], [], synced=True)
    figures = await assert_balanced(again)
    assert (figures.states, figures.moved_aside, figures.ledger.lost) == (1, 1, 999)
    assert (state / ASIDE).exists()
    await again.close()


async def test_a_copy_that_the_disk_did_not_take_is_tried_again_after_a_while(state: Path) -> None:
    """A limit on the size of our files stands for the full disk: the names can be had, the bytes cannot."""
    clock = VirtualClock()
    outbox = SqliteOutbox(state, MIB, clock)
    await outbox.open()
    await outbox.keep([message(1)], [], synced=True)
    unlinked(state)
    with failing_writes(), pytest.raises(OutboxFull, match="cannot be made anew"):
        await outbox.keep([message(2)], [], synced=True)
    with pytest.raises(OutboxFull, match="cannot be made anew"):
        await outbox.keep([message(3)], [], synced=True)
    clock.now += COPY_AGAIN_SECONDS
    await outbox.keep([message(4)], [], synced=True)
    assert (await assert_balanced(outbox)).states == 2
    assert not list(state.glob(f"{NAME}.cop*"))
    await outbox.close()


@pytest.mark.parametrize("there", [None, "theirs"])
async def test_a_start_takes_up_the_copy_that_was_being_put_in_place(there: str | None, state: Path) -> None:
    (await written(state)).rename(state / f"{NAME}.copy")
    (state / f"{NAME}.copying").write_text("half of another")
    if there is not None:
        (state / NAME).write_text(there)
    again = sqlite_outbox(state)
    opened = await again.open()
    assert (len(opened.waiting), opened.moved_aside) == (50, None)
    await again.close()
    aside = [file.read_text() for file in state.iterdir() if "damaged" in file.name]
    assert aside == ([] if there is None else ["theirs"])
    assert not list(state.glob(f"{NAME}.cop*"))
