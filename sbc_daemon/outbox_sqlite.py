"""The outbox on disk, on a thread of its own: an fsync must not stall the event loop.

`outbox_file` opens and writes the file, `outbox_rows` says what is in it; what the disk refuses, `spillover` holds.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from sbc_daemon import outbox_room as room
from sbc_daemon.message import Message
from sbc_daemon.outbox import DeadLetter, Entry, Figures, First, JobRecord, Opened, OutboxFull
from sbc_daemon.outbox_file import OutboxFile
from sbc_daemon.outbox_loose import Loose
from sbc_daemon.outbox_rows import Rows, key
from sbc_daemon.spillover import Spillover
from telemetry_common.clock import Clock
from telemetry_common.logs import fields

log = logging.getLogger(__name__)
T = TypeVar("T")


_NOTHING = Figures(states=0, progress=0, samples=0, dead_letters=0, bytes_used=0, oldest_wall=None)


class SqliteOutbox:
    """`directory` is the state directory, `max_bytes` the cap of the database and its log together."""

    def __init__(self, directory: Path, max_bytes: int, clock: Clock) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._file = OutboxFile(directory, max_bytes, clock)
        self._rows = Rows(self._file.run, self._file.used_bytes, self._file.cap, self._file.ledger)
        self._spilled = Spillover()
        self._loose = Loose()
        self._on_disk = _NOTHING

    async def open(self) -> Opened:
        return await self._on_thread(self._start)

    async def keep(self, messages: Sequence[Message], records: Sequence[JobRecord], *, synced: bool) -> None:
        await self._on_thread(lambda: self._keep(messages, records, synced=synced))

    async def remember(self, survivors: Mapping[str, bytes], gone: Collection[str]) -> None:
        await self._on_thread(lambda: self._file.write(lambda: self._rows.remember(survivors, gone), synced=False))

    async def raise_ceiling(self, ceiling: int) -> None:
        await self._on_thread(lambda: self._file.write(lambda: self._raise_ceiling(ceiling), synced=True))

    async def waiting(self) -> Sequence[str]:
        return await self._on_thread(self._waiting)

    async def first(self, job_id: str) -> Entry | None:
        return await self._on_thread(lambda: self._first(job_id))

    async def firsts(self, job_ids: Sequence[str], max_bytes: int) -> Sequence[First]:
        return await self._on_thread(lambda: room.bounded(map(self._first_or_why_not, job_ids), max_bytes))

    async def delivered(self, *entries: Entry) -> None:
        await self._on_thread(lambda: self._delivered(entries))

    async def renumber(self, renumbered: Sequence[tuple[Entry, int]]) -> None:
        await self._on_thread(lambda: self._renumber(renumbered))

    async def reject(self, entry: Entry, status: int, reason: str, at: float) -> None:
        await self._on_thread(lambda: self._reject(entry, status, reason, at))

    async def figures(self) -> Figures:
        return await self._on_thread(self._figures)

    async def dead_letters(self) -> Sequence[DeadLetter]:
        return await self._on_thread(lambda: self._file.guarded(self._rows.letters))

    async def retry_letters(self, letter_ids: Sequence[int] | None) -> Mapping[int, str]:
        return await self._on_thread(
            lambda: self._file.write(lambda: self._rows.retry(letter_ids), synced=True, essential=True)
        )

    async def delete_letters(self, letter_ids: Sequence[int] | None) -> Sequence[int]:
        return await self._on_thread(
            lambda: self._file.write(lambda: self._rows.delete_letters(letter_ids), synced=True, essential=True)
        )

    async def close(self) -> None:
        await self._on_thread(self._file.close)
        self._thread.shutdown()

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _start(self) -> Opened:
        try:
            jobs, ceiling, survivors = self._file.guarded(
                lambda: (self._rows.records(), self._rows.ceiling(), self._rows.survivors())
            )
            self._file.ceiling = max(self._file.ceiling, ceiling)
        except OutboxFull as error:
            log.error(fields("cannot open the outbox; only the newest of each job is kept, in memory", reason=error))
            jobs, survivors = (), {}
        return Opened(
            jobs=jobs,
            waiting=tuple(self._waiting()),
            seq_ceiling=self._file.ceiling,
            moved_aside=self._file.moved_aside[-1] if self._file.moved_aside else None,
            survivors=survivors,
        )

    def _keep(self, messages: Sequence[Message], records: Sequence[JobRecord], *, synced: bool) -> None:
        try:
            essential = any(message.final for message in messages)
            self._file.write(lambda: self._rows.keep(messages, records), synced=synced, essential=essential)
        except OutboxFull:
            self._spilled.hold(messages)
            raise
        self._spilled.written(messages)
        if synced and (messages or records):
            self._loose.synced()
        else:
            self._loose.replaced(message.job_id for message in messages)

    def _raise_ceiling(self, ceiling: int) -> None:
        self._rows.raise_ceiling(ceiling)
        self._file.ceiling = max(self._file.ceiling, ceiling)

    def _waiting(self) -> list[str]:
        self._settle()
        try:
            on_disk = self._file.guarded(self._rows.waiting)
        except OutboxFull:
            on_disk = []
        return list(dict.fromkeys([*on_disk, *self._spilled.waiting()]))

    def _first(self, job_id: str) -> Entry | None:
        if job_id in self._loose:
            with suppress(OSError):
                self._file.sync()
                self._loose.synced()
        entry = self._next(job_id)
        if entry is not None:
            self._loose.sent(job_id)
        return entry

    def _next(self, job_id: str) -> Entry | None:
        spilled = self._spilled.pending(job_id)
        overtaken = self._spilled.overtakes_disk(job_id)
        try:
            entry = self._file.guarded(lambda: self._rows.first(job_id, self._file.owed, without_progress=overtaken))
        except OutboxFull:
            if spilled is None:
                raise
            return spilled
        return entry if entry is not None and entry.message.kind == "state" else spilled or entry

    def _first_or_why_not(self, job_id: str) -> First:
        try:
            return self._first(job_id)
        except OutboxFull as full:
            return full

    def _delivered(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if not self._spilled.holds(entry):
                self._file.owed.add(key(entry))
            elif self._spilled.delivered(entry):
                self._file.overtaken.add(entry.message.job_id)
        self._loose.removed(entry.message.job_id for entry in entries)
        self._settle()

    def _settle(self) -> None:
        """Remove what is delivered or overtaken. Where the disk refuses, the next look at what waits tries again."""
        if self._file.owed or self._file.overtaken:
            with suppress(OutboxFull):
                self._file.write(lambda: None, synced=False, essential=True)

    def _renumber(self, renumbered: Sequence[tuple[Entry, int]]) -> None:
        on_disk = [one for one in renumbered if not self._spilled.holds(one[0])]
        if on_disk:
            self._file.write(lambda: self._rows.renumber(on_disk), synced=False)
            self._loose.replaced(entry.message.job_id for entry, _ in on_disk)
        for entry, seq in renumbered:
            if self._spilled.holds(entry):
                self._spilled.renumber(entry, seq)

    def _reject(self, entry: Entry, status: int, reason: str, at: float) -> None:
        self._file.write(lambda: self._rows.reject(entry, status, reason, at), synced=True, essential=True)
        self._loose.removed([entry.message.job_id])
        if self._spilled.holds(entry):
            self._spilled.rejected(entry)

    def _figures(self) -> Figures:
        with suppress(OutboxFull):  # looked at now and then: nothing need be written for it to be found and mended
            self._file.keep_in_place()
        with suppress(OutboxFull):
            self._on_disk = self._file.guarded(self._figures_on_disk)
        return structs.replace(
            self._on_disk,
            in_memory=len(self._spilled.waiting()),
            moved_aside=len(self._file.moved_aside),
            ledger=self._on_disk.ledger + self._spilled.ledger,
        )

    def _figures_on_disk(self) -> Figures:
        owed = self._rows.still_there(self._file.owed)
        counts = self._rows.counts() - owed
        ledger = self._file.ledger.copy()
        ledger.delivered += owed.total()
        return Figures(
            states=counts["state"],
            progress=counts["progress"],
            samples=counts["sample"],
            dead_letters=self._rows.letter_count(),
            bytes_used=self._file.used_bytes(),
            oldest_wall=self._rows.oldest_wall(self._file.owed),
            ledger=ledger,
        )
