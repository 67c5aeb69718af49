"""From pending to the outbox: number the messages, write them together, answer the acks, wake the forwarder."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from operator import itemgetter

from sbc_daemon.message import Message
from sbc_daemon.outbox import JobRecord, Outbox, OutboxFull
from sbc_daemon.pending import Ack, Draft, Pending
from sbc_daemon.sequence import Sequence, keep_ceiling
from telemetry_common.clock import Clock
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

Recorder = Callable[[str], JobRecord | None]
"""What of a job must survive a restart, as of now; None once it is forgotten."""
MAX_REFUSALS = 20
"""Refused writes after which the rest of a claim is refused unwritten: at the cap a flood must not keep all others
waiting. It is enough to single out one job among ten thousand, which takes 14 halvings."""
QUIET_SECONDS = 60.0
"""So long without a refusal, and the outbox is said to take messages again: at the cap both come in turns."""


class _Claim(IntEnum):
    """Whose messages are written first where not all can be: ends may use more room than others, new jobs least."""

    END = 0
    STATE = 1
    PROGRESS = 2
    NEW = 3


@dataclass
class _Share:
    """What one job wants kept, all or nothing, and who waits for that."""

    messages: list[Message] = field(default_factory=list)
    records: list[JobRecord] = field(default_factory=list)
    acks: list[tuple[int, Ack]] = field(default_factory=list)
    """With their places among all: answers come in the order of the questions."""

    @property
    def stateful(self) -> bool:
        return any(message.kind == "state" for message in self.messages)

    @property
    def claim(self) -> _Claim:
        if any(message.final for message in self.messages):
            return _Claim.END
        if any(message.reason == "first line" for message in self.messages):
            return _Claim.NEW
        return _Claim.STATE if self.stateful else _Claim.PROGRESS


class Spooler:
    """`wake(job_id)` tells the forwarder that the job has something to send; `beat` is called with every write."""

    def __init__(
        self,
        outbox: Outbox,
        sequence: Sequence,
        clock: Clock,
        wake: Callable[[str], None],
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.kept = 0
        self.refused = 0
        self._outbox = outbox
        self._sequence = sequence
        self._clock = clock
        self._wake = wake
        self._beat = beat
        self._refused_at: float | None = None

    async def spool(self, pending: Pending, record: Recorder, *, sync: bool = False) -> None:
        """Write all that waits, synced where a state or an ack is among it (or `sync` says so)."""
        with contextlib.suppress(OutboxFull):  # the hub's `stale` answer repairs what that can cost
            await keep_ceiling(self._sequence, self._outbox)
        shares = self._taken(pending, record)
        sync = sync or any(share.acks or share.stateful for share in shares)
        problem = await self._keep(shares, sync)
        if problem is None or len(shares) <= 1:
            self._done(shares, problem)
            return
        for claim in _Claim:
            await self._halve([share for share in shares if share.claim is claim], sync, problem)

    async def _halve(self, shares: list[_Share], sync: bool, problem: str) -> None:
        """Keep of these what can be. What is refused unwritten has been held in memory since the first refusal."""
        waiting, refusals = [shares] if shares else [], 0
        while waiting:
            part = waiting.pop()
            if refusals < MAX_REFUSALS:
                refused = await self._keep(part, sync)
                if refused is None:
                    self._done(part, None)
                    continue
                problem, refusals = refused, refusals + 1
                if len(part) > 1:
                    middle = len(part) // 2
                    waiting += [part[middle:], part[:middle]]
                    continue
            self._done(part, problem)

    def _taken(self, pending: Pending, record: Recorder) -> list[_Share]:
        """In one step without waiting: a record must hold nothing newer than the messages it is written with."""
        batch = pending.take()
        shares = {job_id: _Share() for job_id in batch.jobs}
        for job_id in batch.jobs:
            if (kept := record(job_id)) is not None:
                shares[job_id].records.append(kept)
        for draft in batch.drafts:
            shares[draft.job_id].messages.append(self._numbered(draft))
        for place, ack in enumerate(batch.acks):
            shares[ack.job_id].acks.append((place, ack))
        return list(shares.values())

    def _numbered(self, draft: Draft) -> Message:
        return Message(
            job_id=draft.job_id,
            seq=self._sequence.next(),
            kind="state" if draft.is_state else "progress",
            final=draft.final,
            reason=draft.reason,
            taken=draft.taken,
            update=draft.update,
        )

    async def _keep(self, shares: list[_Share], sync: bool) -> str | None:
        """None when all of them are kept, else why none is."""
        self._beat()
        messages = [message for share in shares for message in share.messages]
        records = [record for share in shares for record in share.records]
        try:
            await self._outbox.keep(messages, records, synced=sync)
        except OutboxFull as full:
            return str(full)
        return None

    def _done(self, shares: list[_Share], problem: str | None) -> None:
        """Answer, and wake the lanes also when nothing was kept: the newest is then sent from memory."""
        count = sum(len(share.messages) for share in shares)
        self._tell_edge(problem)
        if problem is None:
            self.kept += count
        else:
            self.refused += count
        for _, ack in sorted((ack for share in shares for ack in share.acks), key=itemgetter(0)):
            ack.origin.answer(ack.ack, problem)
        for share in shares:
            if share.messages:
                self._wake(share.messages[0].job_id)

    def _tell_edge(self, problem: str | None) -> None:
        """One line when the outbox begins to refuse, one when it has refused nothing for a while."""
        now = self._clock.monotonic()
        if problem is not None:
            if self._refused_at is None:
                log.error(fields("outbox refuses messages; the newest of each job stays in memory", reason=problem))
            self._refused_at = now
        elif self._refused_at is not None and now - self._refused_at >= QUIET_SECONDS:
            log.warning(fields("outbox takes messages again", refused=self.refused))
            self._refused_at = None
