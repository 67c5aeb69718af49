"""What becomes of a message and its lane once the hub has answered: delivered, renumbered, held or a dead letter."""

import logging
import random
from collections import Counter, OrderedDict
from collections.abc import Sequence

from sbc_daemon.answers import Outcome
from sbc_daemon.backoff import hold_delay, retry_delay
from sbc_daemon.lanes import Hold, Lane, Lanes
from sbc_daemon.outbox import Entry, Outbox, OutboxFull
from sbc_daemon.outbox_room import RANK
from sbc_daemon.sequence import Sequence as Numbers
from sbc_daemon.sequence import keep_ceiling
from telemetry_common.clock import Clock
from telemetry_common.logs import fields
from telemetry_common.text import duration

log = logging.getLogger(__name__)

UNKNOWN_JOB_SECONDS = 24 * 3600.0
"""A job that the hub has not known for so long will not appear any more."""
MAX_VERDICTS = 10_000
STALE_AT_ONCE = 3
"""Renumbering is repeated at once so often; a hub that calls everything stale is then asked slowly."""
_UNKNOWN_JOB = 404
Taken = tuple[Lane, Entry, Outcome]


class Courier:
    def __init__(self, outbox: Outbox, sequence: Numbers, clock: Clock, lanes: Lanes, rng: random.Random) -> None:
        self._outbox = outbox
        self._sequence = sequence
        self._clock = clock
        self._lanes = lanes
        self._rng = rng
        self._verdicts: OrderedDict[str, str] = OrderedDict()
        self._refused: OrderedDict[str, str] = OrderedDict()
        self.counters: Counter[str] = Counter(delivered=0, duplicate=0, stale=0, final=0, retried=0, rejected=0)

    def verdict(self, job_id: str) -> str | None:
        return self._verdicts.get(job_id)

    async def delivered(self, taken: Sequence[Taken]) -> Sequence[Lane]:
        """The hub has these. Returns the lanes whose stale messages the outbox could not renumber, to be put off."""
        for lane, _, outcome in taken:
            self._note(lane, outcome)
        stale = [one for one in taken if one[2].result == "stale" and not one[1].message.yields]
        done = [one for one in taken if one not in stale] if stale else taken
        await self._outbox.delivered(*[entry for _, entry, _ in done])
        for lane, entry, _ in done:
            self._refused.pop(lane.job_id, None)
            lane.failures = lane.stale_answers = 0
            lane.turned_away_at = None
            self._lanes.again(lane, RANK[entry.message.kind])
        return await self._renumbered([one for one in stale if self._worth_renumbering(one)])

    async def refused(self, lane: Lane, entry: Entry, status: int, outcome: Outcome) -> None:
        """To be held, or for good. Raises OutboxFull where the outbox cannot write it down."""
        if outcome.verdict == "reject" or self._unknown_too_long(lane, status):
            await self._reject(lane, entry, status, outcome)
        else:
            self._hold(lane, status, outcome)

    def _note(self, lane: Lane, outcome: Outcome) -> None:
        self._release(lane)
        if outcome.stored_status is not None:
            _remember(self._verdicts, lane.job_id, outcome.stored_status)
        self.counters[outcome.result if outcome.result != "applied" else "delivered"] += 1

    def _worth_renumbering(self, one: Taken) -> bool:
        """The hub holds a greater seq than the message has: the outbox was lost, or the clock set back."""
        lane, _, outcome = one
        if outcome.stored_seq is None:
            self._try_later(lane)
            return False
        self._sequence.raise_above(outcome.stored_seq)
        return True

    def _try_later(self, lane: Lane) -> None:
        lane.failures += 1
        self._lanes.put_off(lane, self._clock.monotonic() + retry_delay(lane.failures, self._rng))

    async def _renumbered(self, stale: Sequence[Taken]) -> Sequence[Lane]:
        """All that one answer said in one write: a lost outbox makes every waiting message stale. As `delivered`."""
        if not stale:
            return ()
        try:
            await keep_ceiling(self._sequence, self._outbox)
        except OutboxFull:
            log.debug(fields("cannot keep the ceiling of seq; going on", jobs=len(stale)))
        try:
            await self._outbox.renumber([(entry, self._sequence.next()) for _, entry, _ in stale])
        except OutboxFull:
            return [lane for lane, _, _ in stale]
        for lane, entry, _ in stale:
            lane.stale_answers += 1
            if lane.stale_answers > STALE_AT_ONCE:
                self._try_later(lane)
            else:
                self._lanes.again(lane, RANK[entry.message.kind])
        return ()

    async def _reject(self, lane: Lane, entry: Entry, status: int, outcome: Outcome) -> None:
        """One line a job, until the hub takes something of it again."""
        await self._outbox.reject(entry, status, outcome.reason, self._clock.wall())
        self.counters["rejected"] += 1
        if lane.job_id not in self._refused:
            log.error(fields("hub refuses a message; it is a dead letter", job=lane.job_id, reason=outcome.reason))
        _remember(self._refused, lane.job_id, outcome.reason)
        lane.failures = lane.stale_answers = 0
        self._lanes.again(lane, RANK[entry.message.kind])

    def _unknown_too_long(self, lane: Lane, status: int) -> bool:
        hold = lane.hold
        known_since = hold.since if hold is not None and hold.status == status == _UNKNOWN_JOB else None
        return known_since is not None and self._clock.monotonic() - known_since >= UNKNOWN_JOB_SECONDS

    def _hold(self, lane: Lane, status: int, outcome: Outcome) -> None:
        """Unknown jobs are named one by one; anything else is about all jobs and said once."""
        now = self._clock.monotonic()
        if lane.hold is None or lane.hold.status != status:
            if status == _UNKNOWN_JOB or not self._held_for(status):
                log.warning(fields("hub does not take messages for now", job=lane.job_id, reason=outcome.reason))
            lane.hold = Hold(status, outcome.reason, now)
            lane.failures = 0
        lane.failures += 1
        self._lanes.put_off(lane, now + hold_delay(lane.failures, self._rng))

    def _release(self, lane: Lane) -> None:
        """What was refused for a reason that is not the job's own is over for the other jobs, too."""
        hold, lane.hold = lane.hold, None
        if hold is None:
            return
        others = 0 if hold.status == _UNKNOWN_JOB else self._release_all(hold.status)
        after = duration(self._clock.monotonic() - hold.since)
        log.warning(fields("hub takes messages again", job=lane.job_id, after=after, other_jobs=others or None))

    def _release_all(self, status: int) -> int:
        """Forgotten at once, not job by job: ten thousand of them must not look at each other."""
        others = self._lanes.release(status)
        for lane in self._lanes:
            if lane.hold is not None and lane.hold.status == status:
                lane.hold = None
        return others

    def _held_for(self, status: int) -> bool:
        return any(lane.hold is not None and lane.hold.status == status for lane in self._lanes)


def _remember(memory: OrderedDict[str, str], job_id: str, value: str) -> None:
    memory[job_id] = value
    memory.move_to_end(job_id)
    while len(memory) > MAX_VERDICTS:
        memory.popitem(last=False)
