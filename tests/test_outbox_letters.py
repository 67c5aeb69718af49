"""Dead letters taken up again or forgotten, and the balance of all messages: one suite over both outboxes."""

import random
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest

from sbc_daemon.outbox import Entry, Outbox, OutboxFull
from sbc_daemon.outbox_file import NAME
from sbc_daemon.outbox_sqlite import SqliteOutbox
from tests.support.balance import assert_balanced
from tests.support.messages import end, message, progress
from tests.support.outboxes import MIB, Make, make, outbox
from tests.support.virtual_clock import VirtualClock

__all__ = ["make", "outbox"]


async def first(outbox: Outbox, job: str = "job-1") -> Entry:
    entry = await outbox.first(job)
    assert entry is not None
    return entry


async def refused(outbox: Outbox, count: int) -> list[int]:
    """So many states of as many jobs, each a dead letter; their numbers."""
    for n in range(count):
        await outbox.keep([message(n + 1, job=f"job-{n}")], [], synced=True)
        await outbox.reject(await first(outbox, f"job-{n}"), 400, "400 no", 0.0)
    return [letter.letter_id for letter in await outbox.dead_letters()]


async def test_a_letter_goes_back_into_its_lane_behind_its_states_under_its_own_seq(outbox: Outbox) -> None:
    await outbox.keep([message(1), message(2), message(3)], [], synced=True)
    await outbox.reject(await first(outbox), 400, "400 no", 0.0)
    await outbox.keep([progress(4)], [], synced=False)
    (letter,) = await outbox.dead_letters()
    assert await outbox.retry_letters([letter.letter_id]) == {letter.letter_id: "job-1"}
    assert await outbox.dead_letters() == []
    sent = []
    while entry := await outbox.first("job-1"):
        sent.append((entry.message.seq, entry.message.retried))
        await outbox.delivered(entry)
    assert sent == [(2, False), (3, False), (1, True), (4, False)]


async def test_a_letter_that_was_progress_replaces_no_newer_progress(outbox: Outbox) -> None:
    await outbox.keep([progress(1)], [], synced=False)
    await outbox.reject(await first(outbox), 400, "400 no", 0.0)
    await outbox.keep([progress(2)], [], synced=False)
    await outbox.retry_letters(None)
    figures = await outbox.figures()
    assert (figures.states, figures.progress) == (1, 1)


async def test_only_the_letters_that_are_meant_are_touched(outbox: Outbox) -> None:
    one, two, three = await refused(outbox, 3)
    assert await outbox.retry_letters([two, 999]) == {two: "job-1"}
    assert list(await outbox.delete_letters([one, 999])) == [one]
    assert [letter.letter_id for letter in await outbox.dead_letters()] == [three]
    figures = await outbox.figures()
    ledger = figures.ledger
    assert (ledger.accepted, ledger.dead, figures.states, figures.dead_letters) == (4, 3, 1, 1)
    assert (ledger.letters_retried, ledger.letters_deleted, ledger.letters_evicted) == (1, 1, 0)


async def test_the_number_of_a_letter_that_is_gone_is_not_given_again(outbox: Outbox) -> None:
    before = await refused(outbox, 2)
    await outbox.delete_letters(None)
    assert not set(before) & set(await refused(outbox, 2))


async def test_all_letters_are_retried_or_deleted_at_once(outbox: Outbox) -> None:
    await refused(outbox, 5)
    assert sorted((await outbox.retry_letters(None)).values()) == [f"job-{n}" for n in range(5)]
    for n in range(5):
        await outbox.reject(await first(outbox, f"job-{n}"), 422, "422 still no", 0.0)
    assert len(await outbox.delete_letters(None)) == 5
    assert await outbox.retry_letters(None) == {}
    assert await outbox.waiting() == []


async def test_a_retried_letter_survives_a_restart_and_is_a_letter_again_when_refused(make: Make) -> None:
    before = make()
    await before.open()
    await refused(before, 1)
    await before.retry_letters(None)
    await before.close()
    after = make()
    assert (await after.open()).waiting == ("job-0",)
    entry = await first(after, "job-0")
    assert entry.message.retried
    await after.reject(entry, 400, "400 no", 1.0)
    assert [letter.at for letter in await after.dead_letters()] == [1.0]
    assert (await assert_balanced(after)).ledger.accepted == 1
    await after.close()


async def test_a_message_that_cannot_be_read_stays_a_dead_letter(tmp_path: Path) -> None:
    outbox = SqliteOutbox(tmp_path, MIB, VirtualClock())
    await outbox.open()
    await outbox.keep([message(1)], [], synced=True)
    await outbox.close()
    with sqlite3.connect(tmp_path / NAME) as file:
        file.execute("UPDATE entry SET message = x'00'")
    file.close()
    outbox = SqliteOutbox(tmp_path, MIB, VirtualClock())
    await outbox.open()
    assert await outbox.first("job-1") is None
    assert await outbox.retry_letters(None) == {}
    assert len(await outbox.dead_letters()) == 1
    await assert_balanced(outbox)
    await outbox.close()


class Life:
    """Whatever can happen to an outbox, in any order, by a seed."""

    def __init__(self, make: Make, seed: int) -> None:
        self._make = make
        self._random = random.Random(seed)
        self._under_way: list[Entry] = []
        self._seq = 0
        self.outbox = make()

    async def step(self) -> None:
        steps = [self._keep] * 8 + [self._take] * 3 + [self._deliver] * 4
        steps += [self._reject, self._renumber, self._retry, self._delete, self._restart]
        with suppress(OutboxFull):
            await self._random.choice(steps)()

    def _job(self) -> str:
        return f"j{self._random.randrange(30)}"

    async def _keep(self) -> None:
        self._seq += 1
        kind = self._random.choice(["state", "progress", "progress", "progress", "end"])
        size = self._random.choice([0, 500, 20_000])
        at = self._seq * self._random.choice([1.0, 40.0])
        one = end(self._seq, self._job()) if kind == "end" else message(self._seq, "state", self._job(), size=size)
        one = progress(self._seq, self._job(), at=at, size=size) if kind == "progress" else one
        with suppress(OutboxFull):
            await self.outbox.keep([one], [], synced=kind != "progress")
        if self._random.random() < 0.1:  # written once more, as the spooler does when it looks for who has no room
            await self.outbox.keep([one], [], synced=False)

    async def _take(self) -> None:
        entry = await self.outbox.first(self._job())
        if entry is not None:
            self._under_way.append(entry)

    def _arrived(self) -> Entry | None:
        return self._under_way.pop(self._random.randrange(len(self._under_way))) if self._under_way else None

    async def _deliver(self) -> None:
        if entry := self._arrived():
            await self.outbox.delivered(entry)

    async def _reject(self) -> None:
        if entry := self._arrived():
            await self.outbox.reject(entry, 400, "400 no", 0.0)

    async def _renumber(self) -> None:
        if entry := self._arrived():
            self._seq += 1
            await self.outbox.renumber([(entry, self._seq)])

    async def _retry(self) -> None:
        await self.outbox.retry_letters([letter.letter_id for letter in await self.outbox.dead_letters()][:2])

    async def _delete(self) -> None:
        await self.outbox.delete_letters([letter.letter_id for letter in await self.outbox.dead_letters()][:1])

    async def _restart(self) -> None:
        if self._random.random() < 0.2:
            await self.outbox.close()
            self._under_way.clear()
            self.outbox = self._make()
            await self.outbox.open()


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_happens_what_was_taken_is_what_became_of_it_and_what_waits(make: Make, seed: int) -> None:
    life = Life(make, seed)
    await life.outbox.open()
    for _ in range(500):
        await life.step()
        await assert_balanced(life.outbox)
    await life.outbox.close()
