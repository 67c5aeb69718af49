"""What the disk gives back is what was written, or it is not used."""

import sqlite3
from pathlib import Path

import pytest

from sbc_daemon.job_memory import from_json
from sbc_daemon.outbox_file import NAME
from sbc_daemon.outbox_seal import BrokenSeal, sealed, unsealed
from sbc_daemon.outbox_sqlite import SqliteOutbox
from sbc_daemon.sequence import CREDIBLE, Sequence
from telemetry_common.contract import MAX_SEQ
from tests.support.messages import message, record
from tests.support.virtual_clock import VirtualClock

BODY = b'{"bytes_transferred":1073741824}'
PLACES = range(len(sealed(BODY)))


def test_what_was_sealed_is_given_back() -> None:
    assert unsealed(sealed(BODY)) == BODY
    assert unsealed(sealed(BODY, "job-1", 1), "job-1", 1) == BODY


@pytest.mark.parametrize("place", PLACES)
def test_one_byte_that_differs_breaks_the_seal(place: int) -> None:
    kept = sealed(BODY)
    for mask in (1, 128, 255):
        damaged = bytearray(kept)
        damaged[place] ^= mask
        with pytest.raises(BrokenSeal):
            unsealed(bytes(damaged))


@pytest.mark.parametrize("other", [("job-2", 1), ("job-1", 0), ()])
def test_the_columns_beside_belong_to_it(other: tuple[str | int, ...]) -> None:
    with pytest.raises(BrokenSeal):
        unsealed(sealed(BODY, "job-1", 1), *other)


def change(directory: Path, statement: str, *values: object) -> None:
    """As a disk would, behind the outbox's back."""
    with sqlite3.connect(directory / NAME) as connection:
        connection.execute(statement, values)
    connection.close()


def another_digit(directory: Path) -> None:
    with sqlite3.connect(directory / NAME) as connection:
        ((body,),) = connection.execute("SELECT message FROM entry WHERE seq = 1")
    connection.close()
    assert body.count(b'"bytes_transferred":5') == 1
    change(
        directory,
        "UPDATE entry SET message = ? WHERE seq = 1",
        body.replace(b'"bytes_transferred":5', b'"bytes_transferred":9'),
    )


async def kept(directory: Path) -> None:
    """An outbox with two messages of a job and its record."""
    outbox = SqliteOutbox(directory, 1 << 20, VirtualClock())
    await outbox.open()
    snapshot = b'{"job_id":"job-1","bytes_transferred":5}'
    await outbox.keep([message(1, done=5), message(2, done=6)], [record(snapshot=snapshot)], synced=True)
    await outbox.close()


async def test_a_message_whose_figure_the_disk_changed_is_never_told(tmp_path: Path) -> None:
    await kept(tmp_path)
    another_digit(tmp_path)
    outbox = SqliteOutbox(tmp_path, 1 << 20, VirtualClock())
    await outbox.open()
    first = await outbox.first("job-1")
    letters = await outbox.dead_letters()
    await outbox.close()
    assert first is not None
    assert first.message.seq == 2
    assert "other bytes than were written" in letters[0].reason


async def test_a_rank_that_is_none_costs_only_its_message(tmp_path: Path) -> None:
    await kept(tmp_path)
    change(tmp_path, "UPDATE entry SET rank = 9 WHERE seq = 1")
    outbox = SqliteOutbox(tmp_path, 1 << 20, VirtualClock())
    await outbox.open()
    assert (await outbox.figures()).states == 1
    first = await outbox.first("job-1")
    assert first is not None
    await outbox.delivered(first)
    assert await outbox.first("job-1") is None
    assert len(await outbox.dead_letters()) == 1
    await outbox.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE job SET ended = 1",
        "UPDATE job SET job_id = 'job-2'",
        "UPDATE job SET snapshot = CAST(snapshot || ' ' AS BLOB)",
    ],
)
async def test_a_record_that_is_not_as_it_was_kept_is_nobodys(statement: str, tmp_path: Path) -> None:
    await kept(tmp_path)
    change(tmp_path, statement)
    outbox = SqliteOutbox(tmp_path, 1 << 20, VirtualClock())
    opened = await outbox.open()
    await outbox.close()
    assert [job.snapshot for job in opened.jobs] == [b""]


async def test_a_definition_that_is_no_text_does_not_keep_it_from_starting(tmp_path: Path) -> None:
    """SQLite quotes it in its complaint, and Python then finds that it cannot be decoded."""
    await kept(tmp_path)
    file = tmp_path / NAME
    content = file.read_bytes()
    place = content.index(b"CREATE TABLE letter")
    file.write_bytes(content[:place] + b"\xdf" + content[place + 1 :])
    outbox = SqliteOutbox(tmp_path, 1 << 20, VirtualClock())
    assert (await outbox.open()).moved_aside is not None
    await outbox.keep([message(3)], [], synced=True)
    await outbox.close()


async def test_a_constraint_that_became_another_is_damage_too(tmp_path: Path) -> None:
    await kept(tmp_path)
    file = tmp_path / NAME
    content = file.read_bytes()
    assert content.count(b"CHECK (only_row = 1)") == 1
    file.write_bytes(content.replace(b"CHECK (only_row = 1)", b"CHECK (only_row = 3)"))
    outbox = SqliteOutbox(tmp_path, 1 << 20, VirtualClock())
    await outbox.open()
    await outbox.raise_ceiling(777)
    figures = await outbox.figures()
    await outbox.close()
    assert figures.moved_aside == 1


@pytest.mark.parametrize("snapshot", [b"", b"{", b'{"job_id":"\xff"}', b'{"job_id":"j","total_bytes":"5"}'])
def test_what_is_no_record_is_a_value_error(snapshot: bytes) -> None:
    with pytest.raises(ValueError):
        from_json(snapshot, 0.0, VirtualClock().moment())


def test_a_ceiling_that_no_clock_leads_to_is_as_good_as_lost() -> None:
    """Going on above it every message would be refused for good: the hub takes no number above MAX_SEQ."""
    clock = VirtualClock()
    assert Sequence(clock, MAX_SEQ).next() == Sequence(clock).next()
    assert Sequence(clock, CREDIBLE).next() == CREDIBLE + 1
