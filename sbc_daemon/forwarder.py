"""From the outbox to the hub: one request in flight per job, jobs independent, nothing forgotten before a 204.

One dispatcher starts turns; a turn takes the first message of one lane or of many, sends them and settles the answers.
`lanes` and `turns` say whose turn it is, `answers` what an answer means, `link_state` whether there is a hub,
`carrier` and `courier` what becomes of the messages.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from sbc_daemon.answers import NOT_LET_IN
from sbc_daemon.carrier import Carrier, Parcel
from sbc_daemon.courier import Courier
from sbc_daemon.hub_link import HubLink
from sbc_daemon.lanes import Lane, Lanes
from sbc_daemon.link_state import LinkState
from sbc_daemon.link_story import LinkStory
from sbc_daemon.outbox import First, Outbox, OutboxFull
from sbc_daemon.outbox_room import RANK
from sbc_daemon.sequence import Sequence as Numbers
from sbc_daemon.status import HeldLane, HubState
from sbc_daemon.turns import Turn, Turns, fitting
from telemetry_common.clock import Clock, Moment
from telemetry_common.contract import MAX_BODY_BYTES

TURN_SECONDS = 2.0
"""The dispatcher looks round at least so often, for the watchdog's sake."""
LEAST_PAUSE_SECONDS = 0.001
"""A timer that rounds down must not make the dispatcher spin."""
SWEEP_SECONDS = 30.0
"""Between two looks into the outbox for jobs that nobody woke (it may have been opened late, its disk being full)."""
MAX_BYTES = MAX_BODY_BYTES - 64
"""Of a batch's messages with the commas between them; the rest is what stands around them."""


class Forwarder:
    """`wake(job_id)` whenever the outbox got something, and `take_up` what a start finds waiting in it before `run`.

    `beat` is called at least every few seconds while the dispatcher makes its turns.
    """

    def __init__(
        self,
        outbox: Outbox,
        hub: HubLink,
        sequence: Numbers,
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
        self._beat = beat
        rng = rng or random.SystemRandom()
        self._lanes = Lanes()
        self._turns = Turns(self._lanes, max_in_flight)
        self._link = LinkState(rng)
        self._story = LinkStory()
        self._courier = Courier(outbox, sequence, clock, self._lanes, rng)
        self._carrier = Carrier(hub, self._lanes, self._courier, self._link, self._story, clock, rng)
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
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep(), name="forwarder: sweep")
            while True:
                self._beat()
                self._changed.clear()
                self._dispatch(tasks)
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

    def hub_state(self) -> HubState:
        since, heard, now = self._link.since, self._link.last_heard, self._clock.monotonic()
        return HubState(
            url=self._hub.url,
            link=self._link.name,
            since_seconds=None if since is None else now - since,
            last_answer=self._story.last_answer,
            last_answer_seconds=None if heard is None else now - heard,
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

    def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        now = self._clock.monotonic()
        batches = not self._link.failures and self._link.no_batches_at != self._hub.url
        while (free := self._link.free_slots(now, self._in_flight, self._most)) > 0:
            turn = self._turns.next(now, free, batches=batches)
            if turn is None:
                return
            self._in_flight += 1
            name = f"forwarder: {turn.lanes[0].job_id}"
            tasks.create_task(self._turn(turn, probe=self._link.begin(now)), name=name)

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

    async def _turn(self, turn: Turn, *, probe: bool) -> None:
        try:
            parcels = await self._load(turn.lanes, probe=probe)
            if parcels:
                await self._carrier.carry(parcels, probe=probe)
        finally:
            self._in_flight -= 1
            self._turns.over(turn)
            if probe:
                self._link.end_probe()
            self._changed.set()

    async def _load(self, lanes: Sequence[Lane], *, probe: bool) -> list[Parcel]:
        """The lanes' first messages, as many as one body takes, the most urgent first. The other lanes are let go."""
        firsts = await self._outbox.firsts([lane.job_id for lane in lanes], MAX_BYTES)
        now = self._clock.moment()
        looked_at = zip(lanes, firsts, strict=False)
        found = [parcel for lane, first in looked_at if (parcel := self._parcel(lane, first, now, probe=probe))]
        count = fitting([len(parcel.body) + 1 for parcel in found], MAX_BYTES)
        for lane in [*(parcel.lane for parcel in found[count:]), *lanes[len(firsts) :]]:
            self._lanes.again(lane, lane.rank)
        return sorted(found[:count], key=attrgetter("rank"))

    def _parcel(self, lane: Lane, first: First, now: Moment, *, probe: bool) -> Parcel | None:
        """None where the lane has nothing to send now; it is let go then."""
        if first is None:
            self._lanes.finish(lane)
        elif isinstance(first, OutboxFull):
            self._carrier.put_off_for_outbox(lane)
        elif not probe and self._lanes.outranked(lane, RANK[first.message.kind]):
            self._lanes.again(lane, RANK[first.message.kind])
        else:
            return Parcel(lane, first, first.message.body(now))
        return None
