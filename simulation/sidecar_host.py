"""A machine with a sidecar: the daemon as `sbc_daemon.main` puts it together, its producers and their connections."""

import asyncio
from collections.abc import Callable, Sequence

from sbc_daemon.app import Sidecar
from sbc_daemon.config import SidecarSettings
from sbc_daemon.conversation import Conversation
from sbc_daemon.hub_link import HubLink
from sbc_daemon.hub_routes import HubRoutes
from sbc_daemon.outbox_memory import MemoryDisk, MemoryOutbox
from sbc_daemon.processes import Peer
from simulation.channel import Channel
from simulation.clocks import MachineClock
from simulation.disk import Disk, DiskOutbox
from simulation.ground import Ground
from simulation.hub_host import Silence
from simulation.network import Route
from simulation.programs import Program, Programs
from simulation.realm import Realm
from telemetry_common.lifecycle import Lifecycle

UID = 1000


class SidecarHost:
    """`on_death` is called when the daemon has ended without having been asked to, with the reason."""

    def __init__(
        self,
        ground: Ground,
        clock: MachineClock,
        routes: Sequence[Route],
        disk: Disk,
        on_death: Callable[[str], None],
        twin: Callable[[int, MemoryDisk], MemoryOutbox],
        max_outbox_bytes: int,
    ) -> None:
        self.loop = ground.loop
        self.disk = disk
        self.clock = clock
        self.chance = ground.faults.stream("sidecar")
        self.channels: dict[Channel, None] = {}
        self.sidecar: Sidecar | None = None
        self._routes = routes
        self._faults = ground.faults
        self._story = ground.story
        self._truth = ground.truth
        self._on_death = on_death
        self._twin = twin
        self._max_bytes = max_outbox_bytes
        self._realm: Realm | None = None
        self._stop = asyncio.Event()
        self._ready = False

    @property
    def up(self) -> bool:
        return self._realm is not None

    def start(self) -> None:
        """Nothing, if it runs."""
        if self._realm is not None:
            return
        self._story.note("sidecar starts")
        self._truth.sidecar_begins(self.disk.memory.ceiling, refused=self.disk.refused)
        self._realm = Realm("sidecar")
        self._stop = asyncio.Event()
        self.loop.spawn(self._life(self._realm), "sidecar", self._realm)

    async def kill(self, within_steps: int = 0, *, power_cut: bool = False) -> None:
        """As kill -9 does it, or a power cut (then the clocks of the boot begin anew, too).

        In the midst of its work, when it has taken so many steps more.
        """
        if self._realm is not None and within_steps:
            await self.loop.doom(self._realm, within_steps)
            if self._faults.healed:
                return
        realm, self._realm = self._realm, None
        self._ready = False
        for channel in list(self.channels):
            channel.cut()
        if realm is not None:
            await realm.kill()
        self.sidecar = None
        self.disk.process_died()
        if power_cut:
            self.disk.power_cut()
            self.clock.reboot()

    async def stop(self) -> None:
        """As systemctl does it. Returns when it has ended."""
        realm = self._realm
        self._stop.set()
        while self._realm is realm and realm is not None:
            await asyncio.sleep(0.05)

    def connect(self, program: Program) -> Channel | None:
        """None while nobody is there to accept."""
        if not self._ready or self._realm is None:
            return None
        channel = Channel(self, self._realm, program)
        self.channels[channel] = None
        return channel

    def converse(self, peer: Peer, write: Callable[[bytes], None]) -> Conversation:
        if self.sidecar is None:
            raise RuntimeError("nobody accepts")
        return self.sidecar.converse(peer, write)

    async def empty(self) -> bool:
        """Whether nothing waits in the outbox."""
        if self.sidecar is None:
            return False
        outbox = (await self.sidecar.report()).outbox
        return outbox.states == outbox.progress == outbox.samples == outbox.in_memory == 0

    async def _life(self, realm: Realm) -> None:
        try:
            await self._serve(realm)
        except Exception as error:
            if realm.alive:
                self._on_death(f"sidecar died of {error!r}")
        realm.over.set()
        if self._realm is realm:
            self._realm = None
            self._ready = False
            self._story.note("sidecar has stopped")

    async def _serve(self, realm: Realm) -> None:
        """What `main` does, in its order."""
        outbox = DiskOutbox(self.disk, realm, self._twin(self._max_bytes, self.disk.memory))
        hub: HubLink = HubRoutes(self._routes)
        jitter = self._faults.stream(f"jitter {self._truth.lives}")
        lifecycle = Lifecycle(Silence(), self.clock)
        processes = Programs(realm, self.loop)
        sidecar = await Sidecar.opened(SidecarSettings(), self.clock, outbox, hub, processes, lifecycle, rng=jitter)
        sidecar.attachments.read_all = self._read_all
        self.sidecar = sidecar
        try:
            async with sidecar.running(None):
                self._ready = True
                await self._stop.wait()
                self._ready = False
                self._read_all()
                await sidecar.finish()
                for channel in list(self.channels):
                    channel.cut()
        finally:
            await sidecar.close()

    def _read_all(self) -> None:
        for channel in list(self.channels):
            channel.take()
