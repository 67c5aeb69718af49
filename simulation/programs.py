"""The client's processes, as far as the sidecar can see them: they are there, or they have ended."""

from collections.abc import Callable

from sbc_daemon.processes import Peer, Process, Unattachable
from simulation.loop import VirtualLoop
from simulation.realm import Realm


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


class _Attached:
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


class Programs:
    def __init__(self, realm: Realm, loop: VirtualLoop) -> None:
        self._realm = realm
        self._loop = loop

    def behind(self, peer: Peer) -> Process:
        program = peer.handle
        if not isinstance(program, Program):
            raise TypeError("a connection is made by a program")
        if not program.attachable:
            raise Unattachable("its process lives in another PID namespace")
        return _Attached(program, self._realm, self._loop)

    def named_by(self, pidfd: int) -> Process:
        raise Unattachable("there are no descriptors in this world")
