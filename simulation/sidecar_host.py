"""A machine with a sidecar: the daemon as `sbc_daemon.main` puts it together, its producers and their connections."""

from collections.abc import Callable, Sequence

from sbc_daemon.app import Sidecar
from sbc_daemon.config import SidecarSettings
from sbc_daemon.conversation import Conversation
from sbc_daemon.hub_link import HubLink
from sbc_daemon.hub_routes import HubRoutes
from sbc_daemon.processes import Peer
from simulation.channel import Channel
from simulation.clocks import MachineClock
from simulation.daemon import Daemon, Silence
from simulation.disk import Disk, DiskOutbox
from simulation.ground import Ground
from simulation.network import Route
from simulation.programs import Program, Programs
from simulation.realm import Realm
from telemetry_common.lifecycle import Lifecycle
from testbed.memory_disk import MemoryDisk
from testbed.memory_outbox import MemoryOutbox


class SidecarHost(Daemon):
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
        super().__init__(ground, "sidecar", on_death)
        self.disk = disk
        self.clock = clock
        self.chance = ground.faults.stream("sidecar")
        self.channels: dict[Channel, None] = {}
        self.sidecar: Sidecar | None = None
        self._routes = routes
        self._twin = twin
        self._max_bytes = max_outbox_bytes
        self._ready = False

    def start(self) -> None:
        if not self.up:
            self._truth.sidecar_begins(self.disk.memory.ceiling, refused=self.disk.refused)
        super().start()

    async def kill(self, within_steps: int = 0, *, power_cut: bool = False) -> None:
        """Also by a power cut: then the clocks of the boot begin anew, too."""
        await super().kill(within_steps)
        if self.up:
            return
        self.sidecar = None
        self.disk.process_died()
        if power_cut:
            self.disk.power_cut()
            self.clock.reboot()

    def _gone(self) -> None:
        self._ready = False
        self._truth.attention.ends()
        for channel in list(self.channels):
            channel.cut()

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

    async def _serve(self, realm: Realm) -> None:
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
                self._truth.attention.begins()
                await self._stop.wait()
                self._ready = False
                self._truth.attention.ends()
                self._read_all()
                await sidecar.finish()
                for channel in list(self.channels):
                    channel.cut()
        finally:
            await sidecar.close()

    def _read_all(self) -> None:
        for channel in list(self.channels):
            channel.take()
