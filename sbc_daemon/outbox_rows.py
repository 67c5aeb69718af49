"""The outbox's messages, records and letters as rows. Runs statements; knows nothing of files, threads or failures."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import structs

from sbc_daemon import outbox_room as room
from sbc_daemon import outbox_tables as tables
from sbc_daemon.message import Kind, Message
from sbc_daemon.outbox import DeadLetter, Entry, JobRecord
from telemetry_common.clock import Moment
from telemetry_common.contract import encode

Run = Callable[..., list[Any]]
"""`run(statement, *parameters)`: all rows of the answer."""
Key = tuple[int, int]
"""Entry id and seq: an id alone may have been given to a newer message."""
_FORGET_EVERY = 64
_KINDS: dict[int, Kind] = {rank: kind for kind, rank in room.RANK.items()}
_messages = msgspec.json.Decoder(Message)


def key(entry: Entry) -> Key:
    return entry.entry_id, entry.message.seq


class Rows:
    """`keep`, `remember`, `renumber` and `bury` change several rows: call them within a transaction."""

    def __init__(self, run: Run, used_bytes: Callable[[], int], cap: int) -> None:
        self._run = run
        self._used_bytes = used_bytes
        self._cap = cap
        self._saves = 0

    def keep(self, messages: Sequence[Message], records: Sequence[JobRecord]) -> None:
        """Raises OutboxFull where they have no room."""
        bodies = [encode(message) for message in messages]
        self._make_room(messages, room.needed_bytes(bodies, records))
        for message, body in zip(messages, bodies, strict=True):
            if message.kind != "sample":
                self._supersede_progress(message.job_id)
            rank = room.RANK[message.kind]
            self._run(tables.INSERT, message.job_id, rank, message.seq, message.taken.wall, body)
        self._save(records)

    def first(self, job_id: str, done: Collection[Key], *, without_progress: bool) -> Entry | None:
        """`done` is delivered already, though still here. What cannot be read any more becomes a dead letter."""
        for entry_id, job, rank, seq, body in self._run(tables.FIRST, job_id, without_progress, len(done) + 1):
            if (entry_id, seq) in done:
                continue
            try:
                message = structs.replace(_messages.decode(body), kind=_KINDS[rank])
            except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
                self._run(tables.BURY, job, seq, 0, f"cannot be read: {error}", 0.0, body)
                self._run(tables.REMOVE, entry_id, seq)
                return self.first(job_id, done, without_progress=without_progress)
            return Entry(entry_id=entry_id, message=message)
        return None

    def remove(self, keys: Iterable[Key]) -> None:
        for entry_id, seq in keys:
            self._run(tables.REMOVE, entry_id, seq)

    def renumber(self, entry: Entry, seq: int) -> Entry:
        message = structs.replace(entry.message, seq=seq)
        self._run(tables.RENUMBER, seq, encode(message), *key(entry))
        return structs.replace(entry, message=message)

    def bury(self, message: Message, status: int, reason: str, at: float) -> None:
        self._run(tables.BURY, message.job_id, message.seq, status, reason, at, encode(message))
        count, total = self._run(tables.LETTER_BYTES)[0]
        while count > 1 and total > self._cap * room.DEAD_LETTERS_SHARE:
            self._run(tables.FORGET_LETTER)
            count, total = self._run(tables.LETTER_BYTES)[0]

    def letters(self) -> list[DeadLetter]:
        return [
            DeadLetter(letter_id=i, job_id=job, seq=seq, status=status, reason=reason, at=at, body=_as_sent(message))
            for i, job, seq, status, reason, at, message in self._run(tables.LETTERS)
        ]

    def records(self) -> tuple[JobRecord, ...]:
        return tuple(JobRecord(job_id=job, snapshot=snap, ended=bool(end)) for job, snap, end in self._run(tables.JOBS))

    def waiting(self) -> list[str]:
        return [job_id for (job_id,) in self._run(tables.WAITING)]

    def remember(self, survivors: Mapping[str, bytes], gone: Collection[str]) -> None:
        """Raises OutboxFull where they have no room."""
        for name in gone:
            self._run(tables.FORGET, name)
        if survivors and self._used_bytes() + room.survivors_bytes(survivors) > room.survivors_may_use_bytes(self._cap):
            raise room.at_the_cap(self._cap)
        for name, record in survivors.items():
            self._run(tables.REMEMBER, name, record)

    def survivors(self) -> dict[str, bytes]:
        return dict(self._run(tables.SURVIVORS))

    def raise_ceiling(self, ceiling: int) -> None:
        self._run(tables.RAISE_CEILING, ceiling)

    def ceiling(self) -> int:
        return sum(seq for (seq,) in self._run(tables.CEILING))

    def counts(self) -> dict[Kind, int]:
        return {_KINDS[rank]: count for rank, count in self._run(tables.COUNTS)}

    def letter_count(self) -> int:
        return sum(count for (count,) in self._run(tables.LETTER_COUNT))

    def oldest_wall(self) -> float | None:
        return next((wall for (wall,) in self._run(tables.OLDEST)), None)

    def _make_room(self, messages: Sequence[Message], needed: int) -> None:
        """Samples go first, the oldest first of all; then whoever asks is told that it is full."""
        known = {message.job_id for message in messages if self._run(tables.KNOWN, message.job_id)}
        allowed = room.may_use_bytes(messages, known, self._cap)
        while (used := self._used_bytes()) + needed > allowed:
            samples = self._run(tables.OLDEST_SAMPLES)
            if not samples:
                raise room.at_the_cap(self._cap)
            freed = 0
            for entry_id, length in samples:
                self._run(tables.REMOVE_ANY, entry_id)
                freed += length
                if used - freed + needed <= allowed:
                    break

    def _supersede_progress(self, job_id: str) -> None:
        """The job's undelivered progress is older than what comes now: it stays as a sample, or goes."""
        for entry_id, body in self._run(tables.PROGRESS, job_id):
            taken = _taken(body)
            last = next((_taken(sample) for (sample,) in self._run(tables.LAST_SAMPLE, job_id)), None)
            if taken is not None and room.worth_a_sample(taken, last):
                self._run(tables.BECOME_SAMPLE, entry_id)
            else:
                self._run(tables.REMOVE_ANY, entry_id)

    def _save(self, records: Sequence[JobRecord]) -> None:
        for record in records:
            self._run(tables.SAVE_JOB, record.job_id, record.ended, record.ended, record.snapshot)
        self._saves += len(records)
        if self._saves >= _FORGET_EVERY:
            self._saves = 0
            self._run(tables.FORGET_JOBS, True, room.ENDED_RECORDS)
            self._run(tables.FORGET_JOBS, False, room.RUNNING_RECORDS)


def _taken(body: bytes) -> Moment | None:
    try:
        return _messages.decode(body).taken
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _as_sent(message: bytes) -> bytes:
    """The JSON of the POST but for its age; the raw bytes where they cannot be read."""
    try:
        read = _messages.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return message
    return encode(structs.replace(read.update, job_id=read.job_id, seq=read.seq))
