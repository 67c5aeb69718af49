"""From the outbox to the hub: one request in flight per job, jobs independent, nothing forgotten before a 204.

One dispatcher starts turns; a turn takes a lane's first message, posts it and settles the answer. `answers` says what
an answer means, `lanes` whose turn it is, `link_state` whether there is a hub, `courier` what becomes of the message.
"""

import asyncio
import random
from collections.abc import Callable, Iterable

from sbc_daemon.answers import NOT_LET_IN, Answer, Outcome, judge
from sbc_daemon.backoff import retry_delay
from sbc_daemon.courier import Courier
from sbc_daemon.hub_link import HubLink
from sbc_daemon.lanes import Lane, Lanes
from sbc_daemon.link_state import LinkState
from sbc_daemon.link_story import LinkStory
from sbc_daemon.outbox import Entry, Outbox, OutboxFull
from sbc_daemon.outbox_room import RANK
from sbc_daemon.sequence import Sequence
from sbc_daemon.status import HeldLane, HubState
from telemetry_common.clock import Clock

TURN_SECONDS = 2.0
"""The dispatcher looks round at least so often, for the watchdog's sake."""
LEAST_PAUSE_SECONDS = 0.001
"""A timer that rounds down must not make the dispatcher spin."""
SWEEP_SECONDS = 30.0
"""Between two looks into the outbox for jobs that nobody woke (it may have been opened late, its disk being full)."""
TRIALS_SHARE = 4
"""Of the requests under way at most one in so many is for a job the hub did not take the last time (but one may be)."""
OUTBOX_SECONDS = (1.0, 5.0)
"""Before a lane is tried again whose message the outbox could not give or settle."""


class Forwarder:
    """`wake(job_id)` whenever the outbox got something, and `take_up` what a start finds waiting in it before `run`.

    `beat` is called at least every few seconds while the dispatcher makes its turns.
    """

    def __init__(
        self,
        outbox: Outbox,
        hub: HubLink,
        sequence: Sequence,
        clock: Clock,
        *,
        max_in_flight: int = 8,
        rng: random.Random | None = None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._outbox = outbox
        self._hub = hub
        self._clock = clock
        self._most = max_in_flight
        self._rng = rng or random.SystemRandom()
        self._beat = beat
        self._lanes = Lanes(max(1, max_in_flight // TRIALS_SHARE))
        self._link = LinkState(self._rng)
        self._story = LinkStory()
        self._courier = Courier(outbox, sequence, clock, self._lanes, self._rng)
        self._in_flight = 0
        self._changed = asyncio.Event()

    def wake(self, job_id: str) -> None:
        """The job has something in the outbox. Cheap; never blocks."""
        self._lanes.wake(job_id)
        self._changed.set()

    def take_up(self, job_ids: Iterable[str]) -> None:
        """These have waited in the outbox: they go out behind fresh news."""
        self._lanes.take_up(job_ids)
        self._changed.set()

    def ask_again(self) -> None:
        """Whom the hub did not let in may have another token now: their jobs go at once."""
        for status in NOT_LET_IN:
            self._lanes.release(status)
        self._changed.set()

    async def run(self) -> None:
        """For ever; cancel it to stop. What is under way then stays in the outbox."""
        async with asyncio.TaskGroup() as turns:
            turns.create_task(self._sweep(), name="forwarder: sweep")
            while True:
                self._beat()
                self._changed.clear()
                self._dispatch(turns)
                await self._pause()

    @property
    def idle(self) -> bool:
        """Nothing is under way and nothing could go now: what still waits waits for the hub."""
        return not self._in_flight and (self._link.failures > 0 or all(lane.delayed for lane in self._lanes))

    def verdict(self, job_id: str) -> str | None:
        """What the hub last said the job's status is; None where it has not said."""
        return self._courier.verdict(job_id)

    @property
    def counters(self) -> dict[str, int]:
        """Since the start: delivered, duplicate, stale, final, retried, rejected."""
        return dict(self._courier.counters)

    def hub_state(self, url: str) -> HubState:
        since = self._link.since
        return HubState(
            url=url,
            link=self._link.name,
            since_seconds=None if since is None else self._clock.monotonic() - since,
            last_answer=self._story.last_answer,
            last_error=self._story.last_error,
        )

    def held(self) -> tuple[HeldLane, ...]:
        now = self._clock.monotonic()
        return tuple(
            HeldLane(
                job_id=lane.job_id,
                status=lane.hold.status,
                reason=lane.hold.reason,
                since_seconds=now - lane.hold.since,
            )
            for lane in self._lanes
            if lane.hold is not None
        )

    def _dispatch(self, turns: asyncio.TaskGroup) -> None:
        now = self._clock.monotonic()
        while self._link.free_slots(now, self._in_flight, self._most) > 0:
            lane = self._lanes.take(now)
            if lane is None:
                return
            self._in_flight += 1
            turns.create_task(self._turn(lane, probe=self._link.begin()), name=f"forwarder: {lane.job_id}")

    async def _pause(self) -> None:
        """Until something changed, a lane or the probe is due, or it is time to look round."""
        now = self._clock.monotonic()
        free = self._link.free_slots(now, self._in_flight, self._most) > 0
        due = self._lanes.seconds_to_next(now) if free else self._link.seconds_to_probe(now) or None
        try:
            async with asyncio.timeout(
                TURN_SECONDS if due is None else min(TURN_SECONDS, max(LEAST_PAUSE_SECONDS, due))
            ):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                self.take_up(await self._outbox.waiting())
            except OutboxFull:
                continue  # the outbox has said so in the journal; the next sweep looks again

    async def _turn(self, lane: Lane, *, probe: bool) -> None:
        try:
            entry = await self._outbox.first(lane.job_id)
            if entry is None:
                self._lanes.finish(lane)
            elif not probe and self._lanes.outranked(lane, RANK[entry.message.kind]):
                self._lanes.again(lane, RANK[entry.message.kind])
            else:
                await self._send(lane, entry, probe=probe)
        except OutboxFull:
            self._lanes.put_off(lane, self._clock.monotonic() + self._rng.uniform(*OUTBOX_SECONDS))
        finally:
            self._in_flight -= 1
            if probe:
                self._link.end_probe()
            self._changed.set()

    async def _send(self, lane: Lane, entry: Entry, *, probe: bool) -> None:
        started = self._clock.monotonic()
        answer = await self._hub.post(lane.job_id, entry.message.body(self._clock.moment()))
        outcome = judge(answer, self._clock.wall())
        rank = RANK[entry.message.kind]
        self._story.heard(answer, outcome)
        if self._concerns_link(lane, answer, outcome, started):
            self._link_lost(outcome, probe=probe)
            self._courier.counters["retried"] += 1
            self._lanes.again(lane, rank)
            return
        if answer.failure is None and outcome.scope == "lane":
            self._link_answered()
        if outcome.verdict == "retry":
            self._retry(lane, outcome)
        else:
            await self._courier.settle(lane, entry, answer.status, outcome)

    def _concerns_link(self, lane: Lane, answer: Answer, outcome: Outcome, started: float) -> bool:
        """A job that timed out, or is turned away again and again, while others are served is its own trouble."""
        heard = self._link.last_heard
        if answer.failure == "timeout":
            return heard is None or heard < started
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
            self._story.back(now - down_since, waiting_jobs=len(self._lanes))
