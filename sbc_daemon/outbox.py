"""The outbox: what must not be lost until the hub has answered 204. Its promises, and the types they are made in.

Rules (docs/architecture.md has the reasons):
- state changes are kept in order per job, synced to disk before they are acknowledged, and never dropped or thinned;
- of progress only the newest per job is kept, replaced in place, not synced on its own;
- nothing leaves before the hub answered; disk use is capped, samples are given up first, ends have a reserve;
- a power cut brings back at most the last message of a job, which the hub knows by its number, never one that a later
  message has overtaken;
- opening never fails the start: a damaged file is moved aside, reported and counted, and a new one begins.

`outbox_sqlite.SqliteOutbox` keeps it on disk, `testbed.memory_outbox` has its twin; one suite tests both.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

from sbc_daemon.ledger import Ledger
from sbc_daemon.message import Message


class OutboxFull(Exception):
    """At the cap, or the disk is full or failing: the message is not kept. Its text says which, for the producer."""


class StateDirectoryHeld(Exception):
    """Another process has the state directory: two daemons must not share one outbox."""


class JobRecord(Struct, frozen=True, kw_only=True):
    """What of a job must survive a restart. `snapshot` is the tracker's own JSON; `ended` refuses further lines."""

    job_id: str
    snapshot: bytes
    ended: bool


class Entry(Struct, frozen=True, kw_only=True):
    """One undelivered message in its place in the queue."""

    entry_id: int
    message: Message


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A message the hub refused for good, with its answer."""

    letter_id: int
    job_id: str
    seq: int
    status: int
    reason: str
    at: float
    body: bytes


class Opened(Struct, frozen=True, kw_only=True):
    """What a start finds. `moved_aside` names the damaged file's new place; `seq_ceiling` is 0 for a new outbox.

    `survivors` is what was last remembered of each descriptor that may have outlived the last process, by its name.
    """

    jobs: tuple[JobRecord, ...]
    waiting: tuple[str, ...]
    seq_ceiling: int
    moved_aside: str | None = None
    survivors: Mapping[str, bytes] = field(default_factory=dict)


class Figures(Struct, frozen=True, kw_only=True):
    """For status and metrics, all of one moment. `oldest_wall` is the wall time of the oldest undelivered message.

    `in_memory` counts jobs whose newest snapshot could not be written and goes out from memory, `moved_aside` the
    damaged files since the start, and what others had put in the outbox's place. `waiting` is counted, not calculated:
    it must agree with `ledger.waiting`. While the disk cannot be read, what it was last seen to hold.
    """

    states: int
    progress: int
    samples: int
    dead_letters: int
    bytes_used: int
    oldest_wall: float | None
    in_memory: int = 0
    moved_aside: int = 0
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def waiting(self) -> int:
        return self.states + self.progress + self.samples + self.in_memory


First = Entry | OutboxFull | None
"""What a lane sends next; nothing; or why that cannot be told for now."""


class Outbox(Protocol):
    async def open(self) -> Opened:
        """Open or begin anew. Raises only StateDirectoryHeld, when another process has the state directory."""

    async def keep(self, messages: Sequence[Message], records: Sequence[JobRecord], *, synced: bool) -> None:
        """Keep these, all or none. With `synced` they are on the disk when this returns.

        Raises OutboxFull where they are not kept. The newest snapshot of each job is then held in memory and still
        goes out while this process lives (so wake its lane all the same), until a later `keep` succeeds for the job.
        """

    async def remember(self, survivors: Mapping[str, bytes], gone: Collection[str]) -> None:
        """Keep what belongs to these descriptors, and forget others; all or nothing. Outlives the process, not the
        machine: neither do the descriptors. Raises OutboxFull."""

    async def raise_ceiling(self, ceiling: int) -> None:
        """No `seq` above `ceiling` will be given out before this has returned; synced. Raises OutboxFull."""

    async def waiting(self) -> Sequence[str]:
        """The jobs with something undelivered, oldest first."""

    async def first(self, job_id: str) -> Entry | None:
        """What the job's lane sends next: its states in order, then its progress, then its samples.

        Raises OutboxFull where the disk cannot tell.
        """

    async def firsts(self, job_ids: Sequence[str], max_bytes: int) -> Sequence[First]:
        """What each of these lanes sends next, in their order. Never raises for the disk.

        Ends early, but not before the first, where more would take over `max_bytes` of memory in all.
        """

    async def delivered(self, *entries: Entry) -> None:
        """The hub answered 204: forget the entries, unless a newer value has taken one's place meanwhile.

        With one that went out from memory goes the job's progress on the disk, which is older. Never fails: where the
        disk refuses, it is remembered and written down with the next change, or the next look at what is `waiting`.
        """

    async def renumber(self, renumbered: Sequence[tuple[Entry, int]]) -> None:
        """The hub holds greater seqs: these go on under theirs (see Sequence), all or none. Raises OutboxFull.

        Not synced: what a power cut takes back is stale again, and so renumbered again.
        """

    async def reject(self, entry: Entry, status: int, reason: str, at: float) -> None:
        """Move the entry to the dead letters. Raises OutboxFull, and then the entry stays where it is."""

    async def figures(self) -> Figures: ...

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """All of them, the oldest first. Raises OutboxFull where the disk cannot tell."""

    async def retry_letters(self, letter_ids: Sequence[int] | None) -> Mapping[int, str]:
        """Have these (None: all) sent again, behind their jobs' states; the jobs by letter, to be woken. Synced.

        They keep their seq, so that the hub tells old news from new; see `Message.yields`. One that cannot be read as a
        message stays a dead letter, and is not among the answer. Raises OutboxFull, and then all stay.
        """

    async def delete_letters(self, letter_ids: Sequence[int] | None) -> Sequence[int]:
        """Forget these (None: all); those that there were. Synced. Raises OutboxFull, and then all stay."""

    async def close(self) -> None: ...
