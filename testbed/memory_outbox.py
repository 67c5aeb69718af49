"""The outbox's in-memory twin: the same rules over dictionaries. Passes the same suite as the one on SQLite."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import msgspec

from sbc_daemon import outbox_room as room
from sbc_daemon.ledger import Ledger
from sbc_daemon.message import Message
from sbc_daemon.outbox import DeadLetter, Entry, Figures, First, JobRecord, Opened, OutboxFull, StateDirectoryHeld
from sbc_daemon.outbox_loose import Loose
from sbc_daemon.spillover import Spillover
from telemetry_common.contract import encode
from testbed.memory_disk import MemoryDisk


class MemoryOutbox:
    def __init__(self, max_bytes: int = 64 << 20, disk: MemoryDisk | None = None) -> None:
        self._cap = max_bytes
        self._disk = disk or MemoryDisk()
        self._spilled = Spillover()
        self._owed: list[Entry] = []
        self._overtaken: set[str] = set()
        self._loose = Loose()
        self._ledger = Ledger()

    async def open(self) -> Opened:
        if self._disk.held:
            raise StateDirectoryHeld("cannot use this memory: another outbox holds it")
        self._disk.held = True
        self._ledger.found(sum(map(len, self._disk.lanes.values())), 0)
        return Opened(
            jobs=tuple(self._disk.records.values()),
            waiting=tuple(await self.waiting()),
            seq_ceiling=self._disk.ceiling,
            survivors=dict(self._disk.survivors),
        )

    async def keep(self, messages: Sequence[Message], records: Sequence[JobRecord], *, synced: bool) -> None:
        try:
            self._begin()
            self._make_room_for(messages, records)
        except OutboxFull:
            self._spilled.hold(messages)
            raise
        for message in messages:
            self._supersede(message)
            self._disk.last_id += 1
            self._put(Entry(entry_id=self._disk.last_id, message=message))
            self._ledger.accepted += 1
        for record in records:
            self._put_record(record)
        self._spilled.written(messages)
        if synced:
            self._disk.synced()
            self._loose.synced()
        else:
            self._loose.replaced(message.job_id for message in messages)
        self._disk.committed()

    async def remember(self, survivors: Mapping[str, bytes], gone: Collection[str]) -> None:
        self._begin()
        if survivors:
            self._make_room(room.survivors_bytes(survivors), room.survivors_may_use_bytes(self._cap))
        for name, record in [*((name, None) for name in gone), *survivors.items()]:
            before = self._disk.survivors.get(name)
            self._set_survivor(name, record)
            self._disk.changed(partial(self._set_survivor, name, before))
        self._disk.committed()

    async def raise_ceiling(self, ceiling: int) -> None:
        self._begin()
        self._disk.ceiling = max(self._disk.ceiling, ceiling)
        self._disk.synced()

    async def waiting(self) -> Sequence[str]:
        self._settle()
        lanes = sorted((min(lane), job_id) for job_id, lane in self._disk.lanes.items() if lane)
        return list(dict.fromkeys([*(job_id for _, job_id in lanes), *self._spilled.waiting()]))

    async def first(self, job_id: str) -> Entry | None:
        if job_id in self._loose and not self._disk.failure:
            self._disk.synced()
            self._loose.synced()
        entry = self._next(job_id)
        if entry is not None:
            self._loose.sent(job_id)
        return entry

    def _next(self, job_id: str) -> Entry | None:
        overtaken = self._spilled.overtakes_disk(job_id)
        lane = [
            entry
            for entry in self._disk.lanes.get(job_id, {}).values()
            if entry not in self._owed and not (overtaken and entry.message.kind == "progress")
        ]
        best = min(lane, key=_place, default=None)
        if best is not None and best.message.kind == "state":
            return best
        return self._spilled.pending(job_id) or best

    async def firsts(self, job_ids: Sequence[str], max_bytes: int) -> Sequence[First]:
        return room.bounded([await self.first(job_id) for job_id in job_ids], max_bytes)

    async def delivered(self, *entries: Entry) -> None:
        for entry in entries:
            if not self._spilled.holds(entry):
                self._owed.append(entry)
            elif self._spilled.delivered(entry):
                self._overtaken.add(entry.message.job_id)
        self._loose.removed(entry.message.job_id for entry in entries)
        self._settle()

    def _settle(self) -> None:
        """Remove what is delivered or overtaken. Where the disk refuses, the next look at what waits tries again."""
        if (self._owed or self._overtaken) and not self._disk.failure:
            self._begin()
            self._disk.committed()

    async def renumber(self, renumbered: Sequence[tuple[Entry, int]]) -> None:
        if not all(self._spilled.holds(entry) for entry, _ in renumbered):
            self._begin()
        self._disk.renumberings += 1
        for entry, seq in renumbered:
            if self._spilled.holds(entry):
                self._spilled.renumber(entry, seq)
            elif self._current(entry):
                self._put(msgspec.structs.replace(entry, message=msgspec.structs.replace(entry.message, seq=seq)))
        self._disk.committed()

    async def reject(self, entry: Entry, status: int, reason: str, at: float) -> None:
        self._begin()
        message = entry.message
        self._disk.last_id += 1
        letter = DeadLetter(
            letter_id=self._disk.last_id,
            job_id=message.job_id,
            seq=message.seq,
            status=status,
            reason=reason,
            at=at,
            body=encode(msgspec.structs.replace(message.update, job_id=message.job_id, seq=message.seq)),
        )
        self._disk.buried[letter.letter_id] = message
        self._set_letter(letter.letter_id, letter)
        self._bound_letters()
        if self._spilled.holds(entry):
            self._spilled.rejected(entry)
        else:
            self._ledger.dead += self._remove(entry)
        self._disk.synced()

    async def figures(self) -> Figures:
        owed = [entry for entry in self._owed if self._current(entry)]
        entries = [entry for lane in self._disk.lanes.values() for entry in lane.values() if entry not in owed]
        kinds = [entry.message.kind for entry in entries]
        oldest = min(entries, key=lambda entry: entry.entry_id, default=None)
        return Figures(
            states=kinds.count("state"),
            progress=kinds.count("progress"),
            samples=kinds.count("sample"),
            dead_letters=len(self._disk.letters),
            bytes_used=self._disk.used_bytes,
            oldest_wall=oldest.message.taken.wall if oldest else None,
            in_memory=len(self._spilled.waiting()),
            ledger=self._ledger + self._spilled.ledger + Ledger(delivered=len(owed)),
        )

    async def dead_letters(self) -> Sequence[DeadLetter]:
        return list(self._disk.letters.values())

    async def retry_letters(self, letter_ids: Sequence[int] | None) -> Mapping[int, str]:
        self._begin()
        jobs = {}
        for letter_id in self._known_letters(letter_ids):
            message = self._disk.buried[letter_id]
            self._set_letter(letter_id, None)
            again = msgspec.structs.replace(message, kind="state", retried=True)
            self._disk.last_id += 1
            self._put(Entry(entry_id=self._disk.last_id, message=again))
            self._ledger.accepted += 1
            self._ledger.letters_retried += 1
            jobs[letter_id] = again.job_id
        self._disk.synced()
        return jobs

    async def delete_letters(self, letter_ids: Sequence[int] | None) -> Sequence[int]:
        self._begin()
        gone = self._known_letters(letter_ids)
        for letter_id in gone:
            self._set_letter(letter_id, None)
        self._ledger.letters_deleted += len(gone)
        self._disk.synced()
        return gone

    def _known_letters(self, letter_ids: Sequence[int] | None) -> list[int]:
        wanted = self._disk.letters if letter_ids is None else dict.fromkeys(letter_ids)
        return sorted(letter_id for letter_id in wanted if letter_id in self._disk.letters)

    async def close(self) -> None:
        self._disk.synced()
        self._disk.held = False

    def _begin(self) -> None:
        """A write: fails where the disk fails, else what is owed from a failed time is done first."""
        if self._disk.failure:
            raise OutboxFull(f"cannot write the outbox: {self._disk.failure}")
        for entry in self._owed:
            self._ledger.delivered += self._remove(entry)
        self._owed.clear()
        for job_id in sorted(self._overtaken):
            progress = [e for e in self._disk.lanes.get(job_id, {}).values() if e.message.kind == "progress"]
            self._ledger.superseded += sum(map(self._remove, progress))
        self._overtaken.clear()

    def _make_room_for(self, messages: Sequence[Message], records: Sequence[JobRecord]) -> None:
        known = {one.job_id for one in messages if one.job_id in self._disk.records or self._disk.lanes.get(one.job_id)}
        needed = room.needed_bytes([encode(message) for message in messages], records)
        self._make_room(needed, room.may_use_bytes(messages, known, self._cap))

    def _make_room(self, needed: int, allowed: int) -> None:
        """Give up samples, the oldest first, then what is remembered of ended jobs, until so much has room. Nothing is
        given up where that is not enough."""
        over = self._disk.used_bytes + needed - allowed
        samples: list[Entry] = []
        for sample in sorted(self._samples(), key=lambda entry: entry.entry_id) if over > 0 else []:
            if over <= 0:
                break
            samples.append(sample)
            over -= _cost(sample)
        ended: list[JobRecord] = []
        for record in self._disk.records.values():
            if over <= 0:
                break
            if record.ended:
                ended.append(record)
                over -= room.cost_bytes(len(record.snapshot))
        if over > 0:
            raise room.at_the_cap(self._cap)
        for sample in samples:
            self._ledger.evicted += self._remove(sample)
        for record in ended:
            self._replace_record(record.job_id, None)

    def _samples(self) -> list[Entry]:
        return [e for lane in self._disk.lanes.values() for e in lane.values() if e.message.kind == "sample"]

    def _supersede(self, message: Message) -> None:
        """The job's undelivered progress is older than this: it stays as a sample, or goes."""
        lane = self._disk.lanes.get(message.job_id, {})
        old = next((entry for entry in lane.values() if entry.message.kind == "progress"), None)
        if old is None or message.kind == "sample":
            return
        samples = sorted((e for e in lane.values() if e.message.kind == "sample"), key=lambda entry: entry.entry_id)
        first, last = (samples[0].message.taken, samples[-1].message.taken) if samples else (None, None)
        if room.worth_a_sample(old.message.taken, first, last):
            sample = msgspec.structs.replace(old, message=msgspec.structs.replace(old.message, kind="sample"))
            self._put(sample)
            if len(samples) >= room.MAX_SAMPLES:
                self._ledger.evicted += sum(map(self._remove, [*samples, sample][1::2]))
        else:
            self._ledger.superseded += self._remove(old)

    def _current(self, entry: Entry) -> Entry | None:
        """What is kept under the entry's id, if it is still the same message."""
        kept = self._disk.lanes.get(entry.message.job_id, {}).get(entry.entry_id)
        return kept if kept is not None and kept.message.seq == entry.message.seq else None

    def _put(self, entry: Entry) -> None:
        lane = self._disk.lanes.setdefault(entry.message.job_id, {})
        before = lane.get(entry.entry_id)
        self._restore(entry, entry)
        self._disk.changed(lambda: self._restore(entry, before))

    def _remove(self, entry: Entry) -> bool:
        """Whether it was there."""
        kept = self._current(entry)
        if kept is None:
            return False
        self._restore(kept, None)
        self._disk.changed(lambda: self._restore(kept, kept))
        return True

    def _restore(self, entry: Entry, before: Entry | None) -> None:
        lane = self._disk.lanes.setdefault(entry.message.job_id, {})
        now = lane.pop(entry.entry_id, None)
        self._disk.used_bytes -= _cost(now) if now else 0
        if before is not None:
            lane[entry.entry_id] = before
            self._disk.used_bytes += _cost(before)
        if not lane:
            del self._disk.lanes[entry.message.job_id]

    def _put_record(self, record: JobRecord) -> None:
        self._replace_record(record.job_id, record)
        if len(self._disk.records) > room.ENDED_RECORDS:
            self._bound_records(ended=True, limit=room.ENDED_RECORDS)
            self._bound_records(ended=False, limit=room.RUNNING_RECORDS)

    def _replace_record(self, job_id: str, record: JobRecord | None) -> None:
        before = self._disk.records.get(job_id)
        self._set_record(job_id, record)
        self._disk.changed(lambda: self._set_record(job_id, before))

    def _set_record(self, job_id: str, record: JobRecord | None) -> None:
        """The last one saved stands last, so that the first ones are the oldest."""
        old = self._disk.records.pop(job_id, None)
        self._disk.used_bytes -= room.cost_bytes(len(old.snapshot)) if old else 0
        if record is not None:
            self._disk.records[job_id] = record
            self._disk.used_bytes += room.cost_bytes(len(record.snapshot))

    def _bound_records(self, *, ended: bool, limit: int) -> None:
        same = [job_id for job_id, record in self._disk.records.items() if record.ended is ended]
        for job_id in same[: max(0, len(same) - limit)]:
            self._set_record(job_id, None)

    def _set_survivor(self, name: str, record: bytes | None) -> None:
        old = self._disk.survivors.pop(name, None)
        self._disk.used_bytes -= room.cost_bytes(len(old)) if old is not None else 0
        if record is not None:
            self._disk.survivors[name] = record
            self._disk.used_bytes += room.cost_bytes(len(record))

    def _bound_letters(self) -> None:
        letters = self._disk.letters
        while len(letters) > 1 and sum(len(e.body) for e in letters.values()) > self._cap * room.DEAD_LETTERS_SHARE:
            self._set_letter(next(iter(letters)), None)
            self._ledger.letters_evicted += 1

    def _set_letter(self, letter_id: int, letter: DeadLetter | None) -> None:
        old = self._disk.letters.pop(letter_id, None)
        if letter is None:
            self._disk.buried.pop(letter_id, None)
        self._disk.used_bytes -= room.cost_bytes(len(old.body)) if old else 0
        if letter is not None:
            self._disk.letters[letter_id] = letter
            self._disk.used_bytes += room.cost_bytes(len(letter.body))


def _cost(entry: Entry) -> int:
    return room.cost_bytes(len(encode(entry.message)))


def _place(entry: Entry) -> tuple[int, int]:
    return room.RANK[entry.message.kind], entry.entry_id
