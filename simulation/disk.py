"""The sidecar's disk: the outbox's twin on a thread of its own, which takes its time, fills up, and fails.

What is written and not synced is on the disk as long as the machine has power: a killed process loses nothing of it, a
power cut takes an arbitrary part of it from the end.
"""

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from sbc_daemon.message import Message
from sbc_daemon.outbox import DeadLetter, Entry, Figures, First, JobRecord, Opened
from simulation.faults import Dice, between
from simulation.ground import Ground
from simulation.realm import Realm
from simulation.worker import Worker
from testbed.memory_disk import MemoryDisk
from testbed.memory_outbox import MemoryOutbox

T = TypeVar("T")
Work = tuple[Callable[[], Coroutine[Any, Any, Any]], bool]
"""What the twin does, and whether it writes."""
KINDS = ("disk full", "disk error", "disk slow")
_TEXTS = {"disk full": "the disk is full", "disk error": "disk I/O error"}


class Disk:
    """`failing` is why every write fails for now; empty while none does. `refused`: one has, ever."""

    def __init__(self, ground: Ground) -> None:
        self.loop = ground.loop
        self.faults = ground.faults
        self.attention = ground.truth.attention
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


class DiskOutbox(Worker[Work]):
    """Implements `outbox.Outbox` for one process."""

    def __init__(self, disk: Disk, realm: Realm, twin: MemoryOutbox) -> None:
        super().__init__(disk.loop, realm, disk.dice.chance)
        self._disk = disk
        self._twin = twin

    async def open(self) -> Opened:
        return await self._on_thread(self._twin.open, writes=False)

    async def keep(self, messages: Sequence[Message], records: Sequence[JobRecord], *, synced: bool) -> None:
        self._disk.attention.told(messages)
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
        result: T = await self.do((work, writes))
        return result

    def _begun(self, work: Work) -> tuple[float, Callable[[], object]]:
        strike = self._disk.dice.throw() if work[1] else ""
        if strike:
            self._disk.faults.note(strike)
        slow = between(self._chance, 0.05, 10.0) if strike == "disk slow" else 0.0
        self._disk.attention.disk_takes(slow)
        return slow + 0.001 * self._chance.random(), partial(self._disk.touch, work[0], strike)

    def _way_back(self, error: Exception | None) -> float:
        return 0.0001

    def _left_behind(self, work: Work) -> None:
        if self._chance.random() < 0.5:
            return
        try:
            self._disk.touch(work[0], "")
        except Exception as error:
            self._disk.faults.note("died in a write that failed", more=type(error).__name__)
