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

from sbc_daemon import outbox_room as room
from sbc_daemon.message import Message
from sbc_daemon.outbox import DeadLetter, Entry, Figures, First, JobRecord, Opened, OutboxFull
from sbc_daemon.outbox_file import OutboxFile
from sbc_daemon.outbox_rows import Rows, key
from sbc_daemon.spillover import Spillover
from telemetry_common.clock import Clock
from telemetry_common.logs import fields

log = logging.getLogger(__name__)
T = TypeVar("T")


class SqliteOutbox:
    """`directory` is the state directory, `max_bytes` the cap of the database and its log together."""

    def __init__(self, directory: Path, max_bytes: int, clock: Clock) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._file = OutboxFile(directory, max_bytes, clock)
        self._rows = Rows(self._file.run, self._file.used_bytes, self._file.cap)
        self._spilled = Spillover()

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

    async def renumber(self, entry: Entry, seq: int) -> Entry:
        return await self._on_thread(lambda: self._renumber(entry, seq))

    async def reject(self, entry: Entry, status: int, reason: str, at: float) -> None:
        await self._on_thread(lambda: self._reject(entry, status, reason, at))

    async def figures(self) -> Figures:
        return await self._on_thread(self._figures)

    async def dead_letters(self) -> Sequence[DeadLetter]:
        return await self._on_thread(lambda: self._file.guarded(self._rows.letters))

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
        self._spilled.written(message.job_id for message in messages)

    def _raise_ceiling(self, ceiling: int) -> None:
        self._rows.raise_ceiling(ceiling)
        self._file.ceiling = max(self._file.ceiling, ceiling)

    def _waiting(self) -> list[str]:
        try:
            on_disk = self._file.guarded(self._rows.waiting)
        except OutboxFull:
            on_disk = []
        return list(dict.fromkeys([*on_disk, *self._spilled.waiting()]))

    def _first(self, job_id: str) -> Entry | None:
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
        on_disk = [entry for entry in entries if not self._spilled.holds(entry)]
        for entry in entries:
            if self._spilled.holds(entry):
                self._spilled.delivered(entry)
        if not on_disk:
            return
        self._file.owed.update(map(key, on_disk))
        with suppress(OutboxFull):
            self._file.write(lambda: None, synced=False, essential=True)

    def _renumber(self, entry: Entry, seq: int) -> Entry:
        if self._spilled.holds(entry):
            return self._spilled.renumber(entry, seq)
        return self._file.write(lambda: self._rows.renumber(entry, seq), synced=True)

    def _reject(self, entry: Entry, status: int, reason: str, at: float) -> None:
        def bury() -> None:
            self._rows.bury(entry.message, status, reason, at)
            self._rows.remove([key(entry)])

        self._file.write(bury, synced=True, essential=True)
        if self._spilled.holds(entry):
            self._spilled.delivered(entry)

    def _figures(self) -> Figures:
        in_memory, aside = len(self._spilled.waiting()), len(self._file.moved_aside)
        try:
            return self._file.guarded(lambda: self._figures_on_disk(in_memory, aside))
        except OutboxFull:
            return Figures(
                states=0,
                progress=0,
                samples=0,
                dead_letters=0,
                bytes_used=0,
                oldest_wall=None,
                in_memory=in_memory,
                moved_aside=aside,
            )

    def _figures_on_disk(self, in_memory: int, aside: int) -> Figures:
        counts = self._rows.counts()
        return Figures(
            states=counts.get("state", 0),
            progress=counts.get("progress", 0),
            samples=counts.get("sample", 0),
            dead_letters=self._rows.letter_count(),
            bytes_used=self._file.used_bytes(),
            oldest_wall=self._rows.oldest_wall(),
            in_memory=in_memory,
            moved_aside=aside,
        )
