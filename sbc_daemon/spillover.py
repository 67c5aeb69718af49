"""What could not be written to the outbox: the newest snapshot of each job, in memory. No I/O.

A full disk must not end the news: one snapshot per job still goes out, and every message is the full snapshot, so the
newest is enough. It is older than nothing on the disk, so the job's progress there is not worth sending any more.
"""

from collections.abc import Iterable

from msgspec import structs

from sbc_daemon.ledger import Ledger
from sbc_daemon.message import Message
from sbc_daemon.outbox import Entry
from telemetry_common.contract import encode

MAX_JOBS = 10_000
MAX_BYTES = 16 << 20
"""Of what is held, as JSON: a job may have a long error, or a thousand disks."""


class Spillover:
    def __init__(self) -> None:
        self._newest: dict[str, Entry] = {}
        self._sent: set[str] = set()
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._last_id = 0
        self.ledger = Ledger()
        """Of what is held here; what moves on to the disk is counted there, and here no more."""

    def hold(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._last_id -= 1
            self._overtake(message)
            self.ledger.accepted += 1
            self._forget(message.job_id)
            self._newest[message.job_id] = Entry(entry_id=self._last_id, message=message)
            self._sizes[message.job_id] = size = len(encode(message.update))
            self._bytes += size
            while len(self._newest) > MAX_JOBS or (self._bytes > MAX_BYTES and len(self._newest) > 1):
                self._give_up_one()

    def _give_up_one(self) -> None:
        """The oldest that is no job's end, else the oldest."""
        job_id = next((j for j, entry in self._newest.items() if not entry.message.final), next(iter(self._newest)))
        self.ledger.evicted += self.pending(job_id) is not None
        self._forget(job_id)

    def written(self, messages: Iterable[Message]) -> None:
        """These are on the disk: what was held here of their jobs is overtaken, or is one of them."""
        for message in messages:
            self._overtake(message)
            self._forget(message.job_id)

    def _overtake(self, message: Message) -> None:
        """What waits here of its job gives way to it. The same message, kept once more, was never accepted twice."""
        held = self.pending(message.job_id)
        if held is not None and held.message.seq == message.seq:
            self.ledger.accepted -= 1
        elif held is not None:
            self.ledger.superseded += 1

    def _forget(self, job_id: str) -> None:
        self._newest.pop(job_id, None)
        self._sent.discard(job_id)
        self._bytes -= self._sizes.pop(job_id, 0)

    def pending(self, job_id: str) -> Entry | None:
        return None if job_id in self._sent else self._newest.get(job_id)

    def overtakes_disk(self, job_id: str) -> bool:
        """Whether progress of this job on the disk is older than what was held here (sent or not)."""
        return job_id in self._newest

    def holds(self, entry: Entry) -> bool:
        return entry.entry_id < 0

    def delivered(self, entry: Entry) -> bool:
        """Whether it was the newest of its job: what the disk has of the job's progress is older."""
        newest = self._settled(entry)
        self.ledger.delivered += newest
        return newest

    def rejected(self, entry: Entry) -> None:
        self.ledger.dead += self._settled(entry)

    def _settled(self, entry: Entry) -> bool:
        """Whether it was still waiting here; now it is not."""
        job_id = entry.message.job_id
        pending = self.pending(job_id)
        if pending is None or pending.entry_id != entry.entry_id:
            return False
        self._sent.add(job_id)
        return True

    def renumber(self, entry: Entry, seq: int) -> None:
        newest = self._newest.get(entry.message.job_id)
        if newest is not None and newest.entry_id == entry.entry_id:
            self._newest[entry.message.job_id] = structs.replace(entry, message=structs.replace(entry.message, seq=seq))

    def waiting(self) -> list[str]:
        return [job_id for job_id in self._newest if job_id not in self._sent]
