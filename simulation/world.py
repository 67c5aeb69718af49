"""The world put together, lived through from its seed, healed, and judged."""

import asyncio

from simulation.backups import planned
from simulation.chart import Chart
from simulation.clocks import MachineClock
from simulation.controls import Control
from simulation.database import Server
from simulation.disk import Disk
from simulation.faults import Faults
from simulation.ground import Ground
from simulation.hub_host import HubHost
from simulation.invariants import Judge
from simulation.loop import VirtualLoop
from simulation.network import Exchange, Network, Route
from simulation.plans import Plan
from simulation.producers import Producer
from simulation.promises import BUSY, DIED, STUCK
from simulation.sidecar_host import SidecarHost
from simulation.story import Story
from simulation.transport import Response
from simulation.truth import Truth
from simulation.weather import Weather

_LOOK_SECONDS = 30.0
_LATEST_JOB_SECONDS = 12 * 3600.0
"""A message of a job that the hub does not know is kept for a day."""
_SETTLED_WITHIN_SECONDS = 3600.0
_LAST_SWEEPS_SECONDS = 420.0
_LATE_ARRIVALS = 10
"""Of requests that the network still has: each makes its job audible once more."""


class World:
    def __init__(self, loop: VirtualLoop, plan: Plan, control: Control) -> None:
        self.loop = loop
        self.plan = plan
        self.over = asyncio.Event()
        self.healed_at = 0.0
        self.client_clock = MachineClock(loop)
        self.story = Story(loop, self.over.set)
        self.faults = Faults(plan.seed, plan.rates, self.story)
        self.truth = Truth(loop, self.story, self.client_clock)
        ground = self.ground = Ground(loop, self.faults, self.story, self.truth)
        self.server = Server(ground, MachineClock(loop))
        loop.stands_still = lambda: self.story.violate(BUSY, "", "time does not pass any more")
        self.judge = Judge(ground, self.server)
        self.chart = Chart(ground, self.server)
        self.hubs = [
            HubHost(ground, f"hub {n}", self.server, self._answered, self._died) for n in range(1, plan.hubs + 1)
        ]
        self.network = Network(ground)
        self.sidecar = SidecarHost(
            ground,
            self.client_clock,
            [Route(self.network, f"http://hub-{n}", hub) for n, hub in enumerate(self.hubs, 1)],
            Disk(ground),
            self._died,
            control.outbox,
            plan.max_outbox_bytes,
        )
        self.producers = [self._producer(number) for number in range(plan.backups)]

    def _producer(self, number: int) -> Producer:
        chance = self.faults.stream(f"backup {number}")
        backup = planned(chance, f"job-{number}", self.plan.seconds, self.plan.mishaps)
        return Producer(self.ground, backup, 1000 + number, self.sidecar)

    def _answered(self, exchange: Exchange, response: Response) -> None:
        self.judge.answered(exchange, response)
        self.chart.answered(exchange, response)

    def _died(self, reason: str) -> None:
        self.story.violate(DIED, "", reason)

    async def live(self) -> None:
        """From its beginning to its judgement, or to the first violation."""
        living = self.loop.spawn(self._live(), "world")
        waiting = self.loop.spawn(self.over.wait(), "over")
        await asyncio.wait([living, waiting], return_when=asyncio.FIRST_COMPLETED)
        if living.done():
            living.result()
        for task in (living, waiting):
            task.cancel()
        await self.sidecar.kill()
        for hub in self.hubs:
            await hub.kill()
        for reason in self.loop.unforeseen:
            self.story.violate(DIED, "", reason)

    async def away(self, how: str, after: float, seconds: float) -> None:
        """An outage by itself: of the network (refused, silent), or of the hubs' processes (down)."""
        await asyncio.sleep(after)
        self.story.note(f"away: {how}")
        if how == "down":
            for hub in self.hubs:
                await hub.kill()
        else:
            self.network.shut = how
        await asyncio.sleep(seconds)
        self.network.shut = ""
        for hub in self.hubs:
            hub.start()

    async def _live(self) -> None:
        chance = self.faults.stream("jobs")
        for hub in self.hubs:
            hub.start()
        self.sidecar.start()
        for producer in self.producers:
            late = -1.0
            if chance.random() < self.plan.late_jobs:
                late = chance.random() * min(0.5 * self.plan.seconds, _LATEST_JOB_SECONDS)
            at = max(0.0, producer.backup.begins + late)
            self.loop.call_later(at, self._create, producer.backup.job_id)
            self.loop.spawn(producer.run(), producer.backup.job_id)
        self.loop.spawn(Weather(self).run(), "weather")
        self.loop.spawn(self._look(), "look")
        await asyncio.sleep(self.plan.seconds)
        await self._heal()
        await self._settle()
        self.judge.everything_is_there()
        await self.sidecar.stop()
        for hub in self.hubs:
            await hub.stop()

    def _create(self, job_id: str) -> None:
        if job_id not in self.server.tables.jobs:
            self.story.note("created", job_id)
            self.server.create_job(job_id)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.judge.look_for_the_dead()
            self.truth.attention.look()

    async def _heal(self) -> None:
        """Nothing is broken any more, and everybody comes to an end."""
        self.story.note("healed")
        self.faults.healed = True
        self.healed_at = self.loop.now
        self.network.shut = ""
        self.sidecar.disk.failing = ""
        self.server.hold(None)
        self.server.refuse(None)
        self.server.start()
        self.loop.pardon()
        for hub in self.hubs:
            hub.refuses = False
            hub.start()
        self.sidecar.start()
        for producer in self.producers:
            producer.hurry = True
            self._create(producer.backup.job_id)

    async def _settle(self) -> None:
        """Until all have ended and nothing waits; then for as long as the watchdog may take."""
        deadline = self.loop.now + self.plan.seconds + 8 * _SETTLED_WITHIN_SECONDS
        while not all(producer.done for producer in self.producers) and self.loop.now < deadline:
            await asyncio.sleep(10.0)
        deadline = self.loop.now + _SETTLED_WITHIN_SECONDS
        while not await self.sidecar.empty():
            if self.loop.now > deadline:
                self.story.violate(STUCK, "", "something still waits in the outbox")
                return
            await asyncio.sleep(5.0)
        for _ in range(_LATE_ARRIVALS):
            heard = [job.heard_at for job in self.truth.jobs.values() if job.heard_at is not None]
            quiet = self.loop.now - max(self.healed_at, *heard, 0.0)
            if quiet >= _LAST_SWEEPS_SECONDS:
                return
            await asyncio.sleep(_LAST_SWEEPS_SECONDS - quiet)
