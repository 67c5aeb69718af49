"""The outbox's messages, records and letters as rows. Runs statements; knows nothing of files, threads or failures."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import structs

from sbc_daemon import outbox_room as room
from sbc_daemon import outbox_tables as tables
from sbc_daemon.ledger import Ledger
from sbc_daemon.message import Kind, Message
from sbc_daemon.outbox import DeadLetter, Entry, JobRecord
from sbc_daemon.outbox_seal import BrokenSeal, sealed, unsealed
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
    """What changes several rows (`keep`, `remember`, `renumber`, `reject`, the letters) is to be called within a
    transaction.

    `ledger` counts what is done; it is the caller's to take that back where the transaction fails.
    """

    def __init__(self, run: Run, used_bytes: Callable[[], int], cap: int, ledger: Ledger) -> None:
        self._run = run
        self._used_bytes = used_bytes
        self._cap = cap
        self._ledger = ledger
        self._saves = 0
        self._last_letter = 0

    def keep(self, messages: Sequence[Message], records: Sequence[JobRecord]) -> None:
        """Raises OutboxFull where they have no room."""
        bodies = [encode(message) for message in messages]
        known = {message.job_id for message in messages if self._run(tables.KNOWN, message.job_id)}
        self._make_room(room.needed_bytes(bodies, records), room.may_use_bytes(messages, known, self._cap))
        for message, body in zip(messages, bodies, strict=True):
            if message.kind != "sample":
                self._supersede_progress(message.job_id)
            rank = room.RANK[message.kind]
            self._run(tables.INSERT, message.job_id, rank, message.seq, message.taken.wall, sealed(body))
            self._ledger.accepted += 1
        self._save(records)

    def first(self, job_id: str, done: Collection[Key], *, without_progress: bool) -> Entry | None:
        """`done` is delivered already, though still here. What cannot be read any more becomes a dead letter."""
        for entry_id, job, rank, seq, body in self._run(tables.FIRST, job_id, without_progress, len(done) + 1):
            if (entry_id, seq) in done:
                continue
            try:
                message = structs.replace(_read(body), kind=_KINDS[rank])
                if (message.job_id, message.seq) != (job_id, seq):
                    raise BrokenSeal("it is another one than was written there")
            except (msgspec.DecodeError, ValueError, KeyError) as error:
                self._bury(job, seq, 0, f"cannot be read: {error}", 0.0, body)
                self._ledger.dead += len(self._run(tables.REMOVE, entry_id, seq))
                return self.first(job_id, done, without_progress=without_progress)
            return Entry(entry_id=entry_id, message=message)
        return None

    def renumber(self, renumbered: Iterable[tuple[Entry, int]]) -> None:
        for entry, seq in renumbered:
            self._run(tables.RENUMBER, seq, sealed(encode(structs.replace(entry.message, seq=seq))), *key(entry))

    def reject(self, entry: Entry, status: int, reason: str, at: float) -> None:
        self._ledger.dead += len(self._run(tables.REMOVE, *key(entry)))
        message = entry.message
        self._bury(message.job_id, message.seq, status, reason, at, sealed(encode(message)))
        self._bound_letters()

    def _bury(self, job_id: str, seq: int, status: int, reason: str, at: float, body: bytes) -> None:
        buried = self._run(tables.BURY, self._last_letter, job_id, seq, status, reason, at, body)
        self._last_letter = int(buried[0][0])

    def _bound_letters(self) -> None:
        count, total = self._run(tables.LETTER_BYTES)[0]
        while count > 1 and total > self._cap * room.DEAD_LETTERS_SHARE:
            self._run(tables.FORGET_LETTER)
            self._ledger.letters_evicted += 1
            count, total = self._run(tables.LETTER_BYTES)[0]

    def letters(self) -> list[DeadLetter]:
        return [
            DeadLetter(letter_id=i, job_id=job, seq=seq, status=status, reason=reason, at=at, body=_as_sent(message))
            for i, job, seq, status, reason, at, message in self._run(tables.LETTERS)
        ]

    def retry(self, letter_ids: Sequence[int] | None) -> dict[int, str]:
        jobs = {}
        for letter_id, body in self._letter_messages(letter_ids):
            message = _readable(body)
            if message is None:
                continue
            self._run(tables.TAKE_LETTER, letter_id)
            again = structs.replace(message, kind="state", retried=True)
            self._run(
                tables.INSERT, again.job_id, room.RANK["state"], again.seq, again.taken.wall, sealed(encode(again))
            )
            self._ledger.accepted += 1
            self._ledger.letters_retried += 1
            jobs[letter_id] = again.job_id
        return jobs

    def _letter_messages(self, letter_ids: Sequence[int] | None) -> list[tuple[int, bytes]]:
        if letter_ids is None:
            return self._run(tables.LETTER_MESSAGES)
        return [row for letter_id in letter_ids for row in self._run(tables.LETTER_MESSAGE, letter_id)]

    def delete_letters(self, letter_ids: Sequence[int] | None) -> list[int]:
        if letter_ids is None:
            gone = self._run(tables.TAKE_LETTERS)
        else:
            gone = [row for letter_id in letter_ids for row in self._run(tables.TAKE_LETTER, letter_id)]
        self._ledger.letters_deleted += len(gone)
        return sorted(letter_id for (letter_id,) in gone)

    def records(self) -> tuple[JobRecord, ...]:
        """A record that is not as it was written has an empty snapshot, which nobody can read."""
        return tuple(
            JobRecord(job_id=job, snapshot=_opened(snap, job, ended), ended=bool(ended))
            for job, snap, ended in self._run(tables.JOBS)
        )

    def waiting(self) -> list[str]:
        return [job_id for (job_id,) in self._run(tables.WAITING)]

    def remember(self, survivors: Mapping[str, bytes], gone: Collection[str]) -> None:
        """Raises OutboxFull where they have no room."""
        for name in gone:
            self._run(tables.FORGET, name)
        if survivors:
            self._make_room(room.survivors_bytes(survivors), room.survivors_may_use_bytes(self._cap))
        for name, record in survivors.items():
            self._run(tables.REMEMBER, name, sealed(record, name))

    def survivors(self) -> dict[str, bytes]:
        """One that is not as it was written is empty, which nobody can read."""
        return {name: _opened(kept, name) for name, kept in self._run(tables.SURVIVORS)}

    def raise_ceiling(self, ceiling: int) -> None:
        self._run(tables.RAISE_CEILING, ceiling)

    def ceiling(self) -> int:
        return sum(seq for (seq,) in self._run(tables.CEILING))

    def counts(self) -> Counter[Kind]:
        return Counter({_KINDS[rank]: count for rank, count in self._run(tables.COUNTS) if rank in _KINDS})

    def still_there(self, done: Collection[Key]) -> Counter[Kind]:
        """Of these, which are delivered, so many are in the file yet."""
        return Counter(_KINDS[rank] for one in done for (rank,) in self._run(tables.STILL_THERE, *one))

    def letter_count(self) -> int:
        return sum(count for (count,) in self._run(tables.LETTER_COUNT))

    def oldest_wall(self, done: Collection[Key]) -> float | None:
        """But for what is `done`."""
        oldest = self._run(tables.OLDEST, len(done) + 1)
        return next((wall for entry_id, seq, wall in oldest if (entry_id, seq) not in done), None)

    def _make_room(self, needed: int, allowed: int) -> None:
        """Samples go first, the oldest first of all, then what is remembered of ended jobs; then whoever asks is told
        that it is full."""
        while (over := self._used_bytes() + needed - allowed) > 0:
            if not (self._evict_samples(over) or self._forget_ended(over)):
                raise room.at_the_cap(self._cap)

    def _evict_samples(self, over: int) -> bool:
        """Whether there were any."""
        given_up = list(_enough(self._run(tables.OLDEST_SAMPLES), over))
        for entry_id in given_up:
            self._run(tables.REMOVE_ANY, entry_id)
        self._ledger.evicted += len(given_up)
        return bool(given_up)

    def _forget_ended(self, over: int) -> bool:
        """A line after the end of such a job is refused by the hub instead. Whether there were any."""
        given_up = list(_enough(self._run(tables.OLDEST_ENDED), over))
        for job_id in given_up:
            self._run(tables.FORGET_JOB, job_id)
        return bool(given_up)

    def _supersede_progress(self, job_id: str) -> None:
        """The job's undelivered progress is older than what comes now: it stays as a sample, or goes."""
        for entry_id, body in self._run(tables.PROGRESS, job_id):
            taken = _taken(body)
            first, last = self._sample(tables.FIRST_SAMPLE, job_id), self._sample(tables.LAST_SAMPLE, job_id)
            if taken is not None and room.worth_a_sample(taken, first, last):
                self._run(tables.BECOME_SAMPLE, entry_id)
                self._bound_samples(job_id)
            else:
                self._run(tables.REMOVE_ANY, entry_id)
                self._ledger.superseded += 1

    def _sample(self, statement: str, job_id: str) -> Moment | None:
        return next((_taken(sample) for (sample,) in self._run(statement, job_id)), None)

    def _bound_samples(self, job_id: str) -> None:
        if self._run(tables.SAMPLE_COUNT, job_id)[0][0] > room.MAX_SAMPLES:
            self._ledger.evicted += len(self._run(tables.THIN_SAMPLES, job_id))

    def _save(self, records: Sequence[JobRecord]) -> None:
        for record in records:
            snapshot = sealed(record.snapshot, record.job_id, int(record.ended))
            self._run(tables.SAVE_JOB, record.job_id, record.ended, record.ended, snapshot)
        self._saves += len(records)
        if self._saves >= _FORGET_EVERY:
            self._saves = 0
            self._run(tables.FORGET_JOBS, True, room.ENDED_RECORDS)
            self._run(tables.FORGET_JOBS, False, room.RUNNING_RECORDS)


def _enough(rows: Iterable[tuple[Any, int]], over: int) -> Iterator[Any]:
    """The first of the rows' keys, until their lengths together are over that."""
    for row_key, length in rows:
        yield row_key
        over -= length
        if over <= 0:
            return


def _read(kept: bytes) -> Message:
    """Raises msgspec.DecodeError or ValueError (a broken seal, bytes that are no text)."""
    message: Message = _messages.decode(unsealed(kept))
    return message


def _opened(kept: bytes, *beside: str | int) -> bytes:
    try:
        return unsealed(kept, *beside)
    except BrokenSeal:
        return b""


def _readable(kept: bytes) -> Message | None:
    """None where it is not as it was written."""
    try:
        return _read(kept)
    except (msgspec.DecodeError, ValueError):
        return None


def _taken(body: bytes) -> Moment | None:
    message = _readable(body)
    return None if message is None else message.taken


def _as_sent(message: bytes) -> bytes:
    """The JSON of the POST but for its age; the raw bytes where they cannot be read."""
    read = _readable(message)
    if read is None:
        return message
    return encode(structs.replace(read.update, job_id=read.job_id, seq=read.seq))
