"""The socket where producers report: binds, accepts, limits, closes. Reading is each `Connection`'s affair."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from sbc_daemon import unread
from sbc_daemon.complaints import Complaints
from sbc_daemon.connection import Connection, Converse
from sbc_daemon.descriptor_store import RETRY_SECONDS
from sbc_daemon.edges import Edges
from sbc_daemon.intake import Intake
from sbc_daemon.kept_connection import KeptConnection
from sbc_daemon.survivor_records import ConnectionRecord
from sbc_daemon.survivors import Survivors
from telemetry_common.clock import Clock

ACCEPT_PAUSE_SECONDS = 1.0
"""After accept failed for want of descriptors: retrying at once would only spin."""
STORE_PAUSE_SECONDS = RETRY_SECONDS
"""While systemd does not take what was accepted: a connection that waits to be accepted is safe, one that is accepted
and not stored is not."""
_BACKLOG = 512
_ACCEPTS_A_TURN = 64


NAMES = ("progress", "sbc-daemon.socket")
"""What systemd calls the producers' socket: its FileDescriptorName=, or the unit's name where none is set."""


class SocketInUse(Exception):
    """The socket cannot be listened on; the text names the path and the reason."""


def listening_socket(path: str, inherited: Mapping[str, Sequence[socket.socket]]) -> socket.socket:
    """The socket that systemd made, else one of our own at `path`. Raises SocketInUse."""
    handed_over = next((inherited[name][0] for name in NAMES if inherited.get(name)), None)
    if handed_over is None:
        return bind(path)
    if handed_over.getsockname() != path:
        raise SocketInUse(
            f"cannot listen on {path}: sbc-daemon.socket listens on {handed_over.getsockname()}; make socket.path and "
            "a drop-in for ListenStream= agree (systemctl edit sbc-daemon.socket)"
        )
    return handed_over


def bind(path: str) -> socket.socket:
    """A listening Unix socket at `path`, mode 0660. A socket file that nobody answers on is replaced."""
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(path)
        # Until listen nobody can connect: there is no moment with a wider mode.
        Path(path).chmod(0o660)
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise SocketInUse(f"cannot listen on {path}: {error.strerror or error}") from None
    return bound


def _remove_stale(path: str) -> None:
    file = Path(path)
    if not file.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise SocketInUse(f"cannot listen on {path}: {error}") from None
        else:
            raise SocketInUse(f"cannot listen on {path}: another process answers there")


class Listener:
    """Owns the listening socket and every connection. `answers_dropped` and `turned_away` are for status.

    With `survivors` connections outlive it; without, or where there is no room, they end with it.
    """

    def __init__(
        self,
        bound: socket.socket,
        converse: Converse,
        intake: Intake,
        max_connections: int,
        clock: Clock,
        survivors: Survivors | None = None,
    ) -> None:
        self.turned_away = Complaints(clock)
        self.answers_dropped = 0
        self._socket = bound
        self._converse = converse
        self._intake = intake
        self._max_connections = max_connections
        self._connections: set[Connection] = set()
        self._all_closed = asyncio.Event()
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._survivors = survivors
        self._edges = Edges(self._loop)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def start(self) -> None:
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._accept_some)

    def take_up(
        self, name: str, connection: socket.socket, record: ConnectionRecord, survivors: Survivors, *, last: bool
    ) -> None:
        """Go on with a connection that an earlier daemon accepted; `last`: only to read what is there."""
        connection.setblocking(False)
        kept = self._kept(connection, survivors, name)
        kept.take_up(record)
        self._connections.add(kept)
        if last:
            self._loop.call_soon(kept.read_out)

    def read_all(self) -> None:
        """Take in everything that was written so far, also on connections that still wait to be accepted."""
        if self._socket.fileno() >= 0:
            while self._accept_one():
                pass
        for connection in list(self._connections):
            connection.drain()

    async def stop(self) -> None:
        """Accept no more, take in what was written, and return when every ack is answered and every connection closed,
        or left to the next daemon.

        The intake must still be running, or nothing would be answered.
        """
        self._stopping = True
        self._loop.remove_reader(self._socket.fileno())
        self.read_all()
        for connection in list(self._connections):
            connection.stop()
        self._all_closed.clear()
        if self._connections:
            await self._all_closed.wait()

    def close(self) -> None:
        """At once, answered or not."""
        for connection in list(self._connections):
            connection.leave()
        self._edges.close()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_closed.set()

    def _accept_some(self) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            if self._survivors is not None and self._survivors.lagging:
                self._stop_accepting_for(STORE_PAUSE_SECONDS)
                return
            if not self._accept_one():
                return

    def _accept_one(self) -> bool:
        """False when nobody waits."""
        try:
            accepted, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:
            self._pause_accepting(error)
            return False
        if len(self._connections) >= self._max_connections:
            unread.close(accepted)
            self.turned_away.about("connections", "connection turned away", limit=self._max_connections)
            return True
        accepted.setblocking(False)
        self._connections.add(self._connection(accepted))
        return True

    def _connection(self, accepted: socket.socket) -> Connection:
        name = None if self._survivors is None else self._survivors.put("connection", accepted.fileno())
        if self._survivors is None or name is None:
            return Connection(self, accepted, self._converse, self._intake, self._loop)
        return self._kept(accepted, self._survivors, name)

    def _kept(self, accepted: socket.socket, survivors: Survivors, name: str) -> KeptConnection:
        return KeptConnection(self, accepted, self._converse, self._intake, self._loop, self._edges, survivors, name)

    def _pause_accepting(self, error: OSError) -> None:
        self.turned_away.about("accept", "cannot accept connections for now", reason=error.strerror)
        self._stop_accepting_for(ACCEPT_PAUSE_SECONDS)

    def _stop_accepting_for(self, seconds: float) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._loop.call_later(seconds, self._resume_accepting)

    def _resume_accepting(self) -> None:
        if self._socket.fileno() >= 0 and not self._stopping:
            self._loop.add_reader(self._socket.fileno(), self._accept_some)
