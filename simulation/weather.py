"""What happens to whole machines: daemons killed and restarted, power cuts, outages, full disks, stepped clocks.

One event after the other, at times that the seed decides; most last for a while, and overlap.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from simulation.daemon import Daemon
from simulation.faults import between
from simulation.hub_host import HubHost
from simulation.network import Exchange
from simulation.transport import job_path, request

if TYPE_CHECKING:
    from simulation.world import World

_BACKUPS_DIE_TOO = 0.3
_MOST_STEPS = 400
_MOMENTS = ("acknowledged", "said its end", "sent its end", "sent", "stored")
"""When most is at stake: half of all deaths wait for one of these."""
_LONGEST_WAIT_SECONDS = 120.0
_MOST_TRANSACTIONS = 30
_LARGEST_STEP_SECONDS = 6 * 3600.0
_LONGEST_HOLD_SECONDS = 1200.0
_STRAY_BODIES = (
    b'{"status":"running","bytes_transferred":0,"total_bytes":0,"progress_percent":0,"transfer_speed_bps":0}',
    b'{"status":"pending"}',
    b'{"status":"running","bytes_transferred":-1}',
    b'{"status":"walking"}',
    b'{"status":"running","seq":9223372036854775807}',
    b"{",
    b"",
    b'{"status":"running","disks":[{"disk_index":0},{"disk_index":0}]}',
    b'{"status":"running","job_id":"another"}',
)
"""Of older senders and broken ones: none says anything new, each is heard."""


class Weather:
    def __init__(self, world: "World") -> None:
        self._world = world
        self._chance = world.faults.stream("weather")
        weights = world.plan.weather
        self._kinds = [kind for kind in weights if weights[kind] > 0]
        self._weights = [weights[kind] for kind in self._kinds]

    async def run(self) -> None:
        """Until the world heals."""
        while self._kinds:
            await asyncio.sleep(self._chance.expovariate(1 / self._world.plan.calm_seconds))
            if self._healed():
                return
            kind = self._chance.choices(self._kinds, self._weights)[0]
            self._world.loop.spawn(self._strike(kind), kind)

    async def _moment(self) -> None:
        """For a death to come."""
        if self._chance.random() < 0.5:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
                    await self._world.story.next(self._chance.choice(_MOMENTS))

    async def _strike(self, kind: str) -> None:
        event: Coroutine[None, None, None] = getattr(self, "_" + kind.replace(" ", "_"))()
        await event

    def _healed(self) -> bool:
        return self._world.faults.healed

    def _steps(self) -> int:
        """That a process may still take before it dies: mostly it dies at work. 0 is at once, and mostly at rest."""
        return int(between(self._chance, 1.0, _MOST_STEPS)) if self._chance.random() < 0.8 else 0

    def _length(self) -> float:
        return between(self._chance, 1.0, self._world.plan.longest_outage_seconds)

    def _hub(self) -> HubHost:
        return self._chance.choice(self._world.hubs)

    async def _hub_killed(self) -> None:
        hub = self._hub()
        await self._moment()
        if not hub.up or self._healed():
            return
        self._world.faults.note("hub killed", more=hub.name)
        await hub.kill(self._steps())
        hub.refuses = self._chance.random() < 0.5 and not self._healed()
        await asyncio.sleep(self._length() if self._chance.random() < 0.5 else 0.1)
        hub.refuses = False
        hub.start()

    async def _hub_restarted(self) -> None:
        await self._restart("hub restarted", self._hub())

    async def _sidecar_killed(self) -> None:
        await self._sidecar_dies("sidecar killed", power_cut=False)

    async def _power_cut(self) -> None:
        """Of the client. Some backups are on another machine, whose socket is shared: they live on."""
        await self._sidecar_dies("power cut", power_cut=True)

    async def _sidecar_dies(self, kind: str, *, power_cut: bool) -> None:
        sidecar = self._world.sidecar
        await self._moment()
        if not sidecar.up or self._healed():
            return
        self._world.faults.note(kind)
        await sidecar.kill(self._steps(), power_cut=power_cut)
        if self._healed():
            return
        if power_cut and self._chance.random() < _BACKUPS_DIE_TOO:
            for producer in self._world.producers:
                producer.power_cut()
        await asyncio.sleep(between(self._chance, 0.2, min(120.0, self._world.plan.longest_outage_seconds)))
        sidecar.start()

    async def _sidecar_restarted(self) -> None:
        await self._restart("sidecar restarted", self._world.sidecar)

    async def _restart(self, kind: str, daemon: Daemon) -> None:
        if not daemon.up:
            return
        self._world.faults.note(kind, more=daemon.name)
        await daemon.stop()
        await asyncio.sleep(0.1)
        daemon.start()

    async def _outbox_lost(self) -> None:
        """The file is found damaged by the next start: what was acknowledged and not delivered is gone with it."""
        sidecar = self._world.sidecar
        if not sidecar.up:
            return
        self._world.faults.note("outbox lost")
        await sidecar.kill()
        self._world.truth.outbox_lost(sidecar.disk.memory)
        sidecar.disk.lost()
        await asyncio.sleep(1.0)
        sidecar.start()

    async def _database_killed(self) -> None:
        server = self._world.server
        if not server.up:
            return
        self._world.faults.note("database killed")
        await server.crash(int(between(self._chance, 1.0, _MOST_TRANSACTIONS)))
        await asyncio.sleep(self._length())
        server.start()

    async def _network_shut(self) -> None:
        network = self._world.network
        if network.shut:
            return
        network.shut = self._chance.choice(("refused", "silent"))
        self._world.faults.note("network shut", more=network.shut)
        await asyncio.sleep(self._length())
        network.shut = ""
        self._world.story.note("network open")

    async def _disk_fails(self) -> None:
        disk = self._world.sidecar.disk
        if disk.failing:
            return
        disk.failing = self._chance.choice(("the disk is full", "disk I/O error"))
        self._world.faults.note("disk fails", more=disk.failing)
        await asyncio.sleep(self._length())
        disk.failing = ""
        self._world.story.note("disk works")

    async def _clock_stepped(self) -> None:
        world = self._world
        clocks = [world.client_clock, world.server.clock, *(hub.clock for hub in world.hubs)]
        place = self._chance.randrange(len(clocks))
        step = between(self._chance, 0.5, _LARGEST_STEP_SECONDS) * self._chance.choice((-1, 1))
        clocks[place].step(step)
        if place >= 1:
            world.truth.ears.clock_stepped()
        world.faults.note("clock stepped", more=(place, step))

    async def _row_held(self) -> None:
        """By another program."""
        await self._harm("row held", self._world.server.hold)

    async def _row_refused(self) -> None:
        """By a trigger of another program."""
        await self._harm("row refused", self._world.server.refuse)

    async def _harm(self, kind: str, harm: Callable[[str | None], None]) -> None:
        job_id = self._some_job()
        if job_id is None:
            return
        self._world.faults.note(kind, job_id)
        self._world.truth.ears.disturbed()
        harm(job_id)
        await asyncio.sleep(between(self._chance, 0.5, _LONGEST_HOLD_SECONDS))
        harm(None)

    async def _job_cancelled(self) -> None:
        """By the operator, in the GUI."""
        job_id = self._some_job()
        if job_id is not None and self._world.server.cancel_job(job_id):
            self._world.truth.job(job_id).cancelled = True
            self._world.faults.note("job cancelled", job_id)

    async def _stray_message(self) -> None:
        """Of a sender without `seq`, or one that is broken."""
        job_id = self._some_job()
        hub = self._hub()
        if job_id is None or self._world.network.shut or hub.refuses:
            return
        body = self._chance.choice(_STRAY_BODIES)
        self._world.faults.note("stray message", job_id, body)
        hub.arrive(Exchange(request(job_path(job_id), body), (job_id,), self._world.loop.now, 0.0))

    def _some_job(self) -> str | None:
        known: Sequence[str] = list(self._world.server.tables.jobs)
        return self._chance.choice(known) if known else None
