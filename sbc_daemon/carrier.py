"""One request to the hub and what it means: for the link, and for each message in it as if it had gone alone."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from sbc_daemon.answers import Answer, Outcome, judge, needs_singles
from sbc_daemon.backoff import retry_delay
from sbc_daemon.courier import Courier
from sbc_daemon.hub_link import HubLink
from sbc_daemon.lanes import Lane, Lanes
from sbc_daemon.link_state import LinkState
from sbc_daemon.link_story import LinkStory
from sbc_daemon.outbox import Entry, OutboxFull
from sbc_daemon.outbox_room import RANK
from telemetry_common.clock import Clock

OUTBOX_SECONDS = (1.0, 5.0)
"""Before a lane is tried again whose message the outbox could not give or settle."""


class Parcel(NamedTuple):
    """A lane's first message, and its bytes as of now."""

    lane: Lane
    entry: Entry
    body: bytes

    @property
    def rank(self) -> int:
        return RANK[self.entry.message.kind]


class _Judged(NamedTuple):
    parcel: Parcel
    answer: Answer
    outcome: Outcome
    shared: bool
    """It is the one answer for several messages, any of which may be its cause."""


class Carrier:
    """Leaves no lane under way that it was given."""

    def __init__(
        self,
        hub: HubLink,
        lanes: Lanes,
        courier: Courier,
        link: LinkState,
        story: LinkStory,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._hub = hub
        self._lanes = lanes
        self._courier = courier
        self._link = link
        self._story = story
        self._clock = clock
        self._rng = rng

    async def carry(self, parcels: Sequence[Parcel], *, probe: bool) -> None:
        started = self._clock.monotonic()
        whole = await self._sent(parcels)
        if len(parcels) > 1 and needs_singles(whole):
            self._send_singly(parcels, judge(whole, self._clock.wall()))
            return
        wall, shared = self._clock.wall(), len(parcels) > 1 and whole.items is None
        answers = whole.items or [whole] * len(parcels)
        judged = [
            _Judged(parcel, answer, judge(answer, wall), shared)
            for parcel, answer in zip(parcels, answers, strict=True)
        ]
        await self._settle(judged, started, probe=probe)

    async def _sent(self, parcels: Sequence[Parcel]) -> Answer:
        if len(parcels) == 1:
            return await self._hub.post(parcels[0].lane.job_id, parcels[0].body)
        return await self._hub.post_batch([(parcel.lane.job_id, parcel.body) for parcel in parcels])

    def put_off_for_outbox(self, lane: Lane) -> None:
        """The outbox could not give or settle its message."""
        self._lanes.put_off(lane, self._clock.monotonic() + self._rng.uniform(*OUTBOX_SECONDS))

    def _send_singly(self, parcels: Sequence[Parcel], outcome: Outcome) -> None:
        """The hub answers, and takes no batches: an older one, or one behind something that does not let them pass."""
        self._link_answered()
        if self._link.no_batches_at != self._hub.url:
            self._story.no_batches(outcome.reason)
        self._link.no_batches_at = self._hub.url
        for parcel in parcels:
            self._lanes.again(parcel.lane, parcel.rank)

    async def _settle(self, judged: Sequence[_Judged], started: float, *, probe: bool) -> None:
        """What was taken comes first: what the hub says of itself in the same answer then counts as the newer."""
        taken = [one for one in judged if one.outcome.verdict == "delivered"]
        for one in taken:
            self._story.heard(one.answer, one.outcome)
        if taken:
            self._link_answered()
            await self._delivered(taken)
        for one in judged:
            if one.outcome.verdict != "delivered":
                self._story.heard(one.answer, one.outcome)
                await self._not_delivered(one, started, probe=probe)

    async def _delivered(self, taken: Sequence[_Judged]) -> None:
        for one in taken:
            one.parcel.lane.alone = False
        for lane in await self._courier.delivered([(one.parcel.lane, one.parcel.entry, one.outcome) for one in taken]):
            self.put_off_for_outbox(lane)

    async def _not_delivered(self, one: _Judged, started: float, *, probe: bool) -> None:
        parcel, answer, outcome, shared = one
        if shared and outcome.verdict == "retry" and outcome.scope == "lane":
            parcel.lane.alone = True
        if self._concerns_link(parcel.lane, answer, outcome, started):
            self._link_lost(outcome, probe=probe)
            self._courier.counters["retried"] += 1
            parcel.lane.failures += answer.failure == "timeout"  # it may be the cause: others ask for the hub next
            self._lanes.again(parcel.lane, parcel.rank)
            return
        if answer.failure is None and outcome.scope == "lane":
            self._link_answered()
        if outcome.verdict == "retry":
            self._retry(parcel.lane, outcome)
            return
        try:
            await self._courier.refused(parcel.lane, parcel.entry, answer.status, outcome)
        except OutboxFull:
            self.put_off_for_outbox(parcel.lane)

    def _concerns_link(self, lane: Lane, answer: Answer, outcome: Outcome, started: float) -> bool:
        """A job that timed out, or is turned away again and again, while others are served is its own trouble."""
        heard = self._link.last_heard
        if answer.failure == "timeout":
            return heard is None or heard <= started
        if outcome.scope == "link" and answer.failure is None:
            if lane.turned_away_at is None:
                lane.turned_away_at = self._clock.monotonic()
            return heard is None or heard <= lane.turned_away_at
        return outcome.scope == "link"

    def _retry(self, lane: Lane, outcome: Outcome) -> None:
        self._courier.counters["retried"] += 1
        lane.failures += 1
        delay = max(retry_delay(lane.failures, self._rng), outcome.not_before_seconds)
        self._lanes.put_off(lane, self._clock.monotonic() + delay)

    def _link_lost(self, outcome: Outcome, *, probe: bool) -> None:
        now = self._clock.monotonic()
        if self._link.lost(now, probe=probe, not_before_seconds=outcome.not_before_seconds) == "lost":
            self._story.lost(outcome.reason, waiting_jobs=len(self._lanes))

    def _link_answered(self) -> None:
        now = self._clock.monotonic()
        down_since = self._link.since
        if self._link.answered(now) == "back" and down_since is not None:
            self._lanes.outage_over()
            self._story.back(now - down_since, waiting_jobs=len(self._lanes))
