"""The sidecar's disk: the outbox's twin on a thread of its own, which takes its time, fills up, and fails.

What is written and not synced is on the disk as long as the machine has power: a killed process loses nothing of it, a
power cut takes an arbitrary part of it from the end.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from sbc_daemon.message import Message
from sbc_daemon.outbox import DeadLetter, Entry, Figures, First, JobRecord, Opened
from sbc_daemon.outbox_memory import MemoryDisk, MemoryOutbox
from simulation.faults import Dice, between
from simulation.ground import Ground
from simulation.realm import Realm

T = TypeVar("T")
KINDS = ("disk full", "disk error", "disk slow")
_TEXTS = {"disk full": "the disk is full", "disk error": "disk I/O error"}


class Disk:
    """`failing` is why every write fails for now; empty while none does. `refused`: one has, ever."""

    def __init__(self, ground: Ground) -> None:
        self.loop = ground.loop
        self.faults = ground.faults
        self.dice = Dice(ground.faults, "disk", KINDS)
        self.memory = MemoryDisk()
        self.failing = ""
        self.refused = False

    def process_died(self) -> None:
        self.memory.held = False

    def power_cut(self) -> None:
        self.memory.power_cut(kept=self.dice.chance.randint(0, self.memory.unsynced))

    def lost(self) -> None:
        """The file is damaged: the next start begins a new one."""
        self.memory = MemoryDisk()

    def touch(self, work: Callable[[], Coroutine[Any, Any, T]], strike: str) -> T:
        """`work` is the twin's, which waits for nothing. Raises what it raises."""
        self.memory.failure = _TEXTS.get(strike) or self.failing or None
        self.refused = self.refused or self.memory.failure is not None
        try:
            work().send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            self.memory.failure = None
        raise RuntimeError("the twin waits for something")


class DiskOutbox:
    """Implements `outbox.Outbox` for one process: one piece of work after the other, in the order of the calls."""

    def __init__(self, disk: Disk, realm: Realm, twin: MemoryOutbox) -> None:
        self._disk = disk
        self._loop = disk.loop
        self._realm = realm
        self._twin = twin
        self._chance = disk.dice.chance
        self._waiting: deque[tuple[Callable[[], Coroutine[Any, Any, Any]], asyncio.Future[Any], bool]] = deque()
        self._under_way: tuple[Callable[[], Coroutine[Any, Any, Any]], asyncio.Future[Any], bool] | None = None
        self._busy = False
        realm.on_death.append(self._dies)

    async def open(self) -> Opened:
        return await self._on_thread(self._twin.open, writes=False)

    async def keep(self, messages: Sequence[Message], records: Sequence[JobRecord], *, synced: bool) -> None:
        await self._on_thread(lambda: self._twin.keep(messages, records, synced=synced))

    async def raise_ceiling(self, ceiling: int) -> None:
        await self._on_thread(lambda: self._twin.raise_ceiling(ceiling))

    async def waiting(self) -> Sequence[str]:
        return await self._on_thread(self._twin.waiting, writes=False)

    async def first(self, job_id: str) -> Entry | None:
        return await self._on_thread(lambda: self._twin.first(job_id), writes=False)

    async def firsts(self, job_ids: Sequence[str], max_bytes: int) -> Sequence[First]:
        return await self._on_thread(lambda: self._twin.firsts(job_ids, max_bytes), writes=False)

    async def delivered(self, *entries: Entry) -> None:
        await self._on_thread(lambda: self._twin.delivered(*entries))

    async def remember(self, survivors: Mapping[str, bytes], gone: Collection[str]) -> None:
        await self._on_thread(lambda: self._twin.remember(survivors, gone))

    async def renumber(self, renumbered: Sequence[tuple[Entry, int]]) -> None:
        await self._on_thread(lambda: self._twin.renumber(renumbered))

    async def reject(self, entry: Entry, status: int, reason: str, at: float) -> None:
        await self._on_thread(lambda: self._twin.reject(entry, status, reason, at))

    async def figures(self) -> Figures:
        return await self._on_thread(self._twin.figures, writes=False)

    async def dead_letters(self) -> Sequence[DeadLetter]:
        return await self._on_thread(self._twin.dead_letters, writes=False)

    async def retry_letters(self, letter_ids: Sequence[int] | None) -> Mapping[int, str]:
        return await self._on_thread(lambda: self._twin.retry_letters(letter_ids))

    async def delete_letters(self, letter_ids: Sequence[int] | None) -> Sequence[int]:
        return await self._on_thread(lambda: self._twin.delete_letters(letter_ids))

    async def close(self) -> None:
        await self._on_thread(self._twin.close)

    async def _on_thread(self, work: Callable[[], Coroutine[Any, Any, T]], *, writes: bool = True) -> T:
        done: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append((work, done, writes))
        if not self._busy:
            self._begin()
        return await done

    def _begin(self) -> None:
        self._busy = True
        self._under_way = self._waiting.popleft()
        strike = self._disk.dice.throw() if self._under_way[2] else ""
        if strike:
            self._disk.faults.note(strike)
        slow = between(self._chance, 0.05, 10.0) if strike == "disk slow" else 0.0
        self._loop.call_later(slow + 0.001 * self._chance.random(), self._execute, strike)

    def _execute(self, strike: str) -> None:
        if not self._realm.alive or self._under_way is None:
            return
        (work, done, _), self._under_way = self._under_way, None
        try:
            result, error = self._disk.touch(work, strike), None
        except Exception as raised:
            result, error = None, raised
        self._loop.call_later(0.0001, self._answer, done, result, error)

    def _answer(self, done: "asyncio.Future[Any]", result: object, error: Exception | None) -> None:
        self._busy = False
        if not self._realm.alive:
            return
        if self._waiting:
            self._begin()
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
            done.exception()  # nobody may wait for it any more
        else:
            done.set_result(result)

    def _dies(self) -> None:
        """The thread may have been in the middle of its work: it is done, or it is not."""
        if self._under_way is None or self._chance.random() < 0.5:
            return
        try:
            self._disk.touch(self._under_way[0], "")
        except Exception as error:
            self._disk.faults.note("died in a write that failed", more=type(error).__name__)
