"""A machine with a sidecar: the daemon as `sbc_daemon.main` puts it together, its producers and their connections."""

import asyncio
from collections.abc import Callable, Sequence

from sbc_daemon.app import Sidecar
from sbc_daemon.config import SidecarSettings
from sbc_daemon.conversation import Conversation
from sbc_daemon.hub_link import HubLink
from sbc_daemon.hub_routes import HubRoutes
from sbc_daemon.outbox_memory import MemoryDisk, MemoryOutbox
from sbc_daemon.processes import Peer, Process, Unattachable
from simulation.clocks import MachineClock
from simulation.disk import Disk, DiskOutbox
from simulation.faults import Faults
from simulation.hub_host import Silence
from simulation.loop import Realm, VirtualLoop
from simulation.network import Route
from simulation.story import Story
from simulation.truth import Truth
from telemetry_common.lifecycle import Lifecycle

UID = 1000


class Program:
    """A process on the client that can be attached to."""

    def __init__(self, pid: int, *, attachable: bool = True) -> None:
        self.pid = pid
        self.attachable = attachable
        self.alive = True
        self._watchers: list[Callable[[], None]] = []

    def ends(self) -> None:
        self.alive = False
        watchers, self._watchers = self._watchers, []
        for tell in watchers:
            tell()

    def watched(self, tell: Callable[[], None]) -> None:
        self._watchers.append(tell)


class _Held:
    """Implements `processes.Process` over a program, for one life of the sidecar."""

    def __init__(self, program: Program, realm: Realm, loop: VirtualLoop) -> None:
        self.pid = program.pid
        self._program = program
        self._realm = realm
        self._loop = loop
        self._closed = False

    def ended(self) -> bool:
        return not self._program.alive

    def on_end(self, callback: Callable[[], None]) -> None:
        def tell() -> None:
            if self._realm.alive and not self._closed:
                self._realm.call(self._loop.call_soon, callback)

        if self._program.alive:
            self._program.watched(tell)
        else:
            tell()

    def close(self) -> None:
        self._closed = True


class _Processes:
    def __init__(self, realm: Realm, loop: VirtualLoop) -> None:
        self._realm = realm
        self._loop = loop

    def behind(self, peer: Peer) -> Process:
        program = peer.handle
        if not isinstance(program, Program):
            raise TypeError("a connection is made by a program")
        if not program.attachable:
            raise Unattachable("its process lives in another PID namespace")
        return _Held(program, self._realm, self._loop)

    def named_by(self, pidfd: int) -> Process:
        raise Unattachable("there are no descriptors in this world")


class Channel:
    """One producer's connection: what it writes is read a moment later, what is not read when the daemon dies is gone.

    `heard` is called with each answer, `broken` once when the connection is no more.
    """

    def __init__(self, host: "SidecarHost", realm: Realm, program: Program) -> None:
        self.open = True
        self.heard: Callable[[bytes], None] = lambda answer: None
        self.broken: Callable[[], None] = lambda: None
        self._host = host
        self._realm = realm
        self._unread: list[tuple[bytes, Callable[[], None]]] = []
        self._reading = False
        self._conversation: Conversation = realm.call(host.converse, Peer(UID, program.pid, program), self._answer)

    def write(self, line: bytes, read: Callable[[], None]) -> None:
        """`read` is called when the daemon takes it in, just before."""
        self._unread.append((line, read))
        if not self._reading:
            self._reading = True
            self._host.loop.call_later(self._host.chance.random() * 0.002, self.take)

    def take(self) -> None:
        """The daemon reads all that is there."""
        self._reading = False
        if not self.open or not self._realm.alive:
            return
        lines, self._unread = self._unread, []
        for _, read in lines:
            read()
        if lines:
            self._realm.call(self._conversation.feed, b"".join(line for line, _ in lines))
            self._realm.call(self._conversation.catch_up)

    def close(self) -> None:
        """By the producer, or because its process is gone: what it had written is still read."""
        self.take()
        self._end()
        if self._realm.alive:
            self._realm.call(self._conversation.finish)
            self._realm.call(self._conversation.close)

    def cut(self) -> None:
        """The daemon is gone, or closes it."""
        if self.open:
            self._end()
            self._host.loop.call_soon(self.broken)

    def _end(self) -> None:
        self.open = False
        self._host.channels.pop(self, None)

    def _answer(self, answer: bytes) -> None:
        if self.open and self._realm.alive:
            self._host.loop.call_soon(self._hand_over, answer)

    def _hand_over(self, answer: bytes) -> None:
        """An answer in the socket can be read also when its writer is dead by then."""
        self.heard(answer)


class SidecarHost:
    """`on_death` is called when the daemon has ended without having been asked to, with the reason."""

    def __init__(
        self,
        loop: VirtualLoop,
        routes: Sequence[Route],
        disk: Disk,
        clock: MachineClock,
        faults: Faults,
        story: Story,
        truth: Truth,
        on_death: Callable[[str], None],
        twin: Callable[[int, MemoryDisk], MemoryOutbox] = MemoryOutbox,
        max_outbox_bytes: int = 64 << 20,
    ) -> None:
        self.loop = loop
        self.disk = disk
        self.clock = clock
        self.chance = faults.stream("sidecar")
        self.channels: dict[Channel, None] = {}
        self.sidecar: Sidecar | None = None
        self._routes = routes
        self._faults = faults
        self._story = story
        self._truth = truth
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
        processes = _Processes(realm, self.loop)
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
