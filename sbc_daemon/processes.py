"""The processes behind connections, held by pidfd, so that a reused pid can never be taken for the one that is meant.

SO_PEERPIDFD where the kernel has it (6.5); before that the peer's pid is opened and the connection looked at again.
"""

import asyncio
import contextlib
import os
import select
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from sbc_daemon import foreign

SO_PEERPIDFD = 77
"""<asm-generic/socket.h>; Python 3.11 has no name for it."""
_UCRED = struct.Struct("iII")
"""What SO_PEERCRED gives: pid, uid, gid."""


class Peer(NamedTuple):
    """Who connected, by SO_PEERCRED. `handle` is what `Processes` knows the connection by: its socket."""

    uid: int
    pid: int
    handle: object


def peer_of(connection: socket.socket) -> Peer:
    """Who is at the other end, as the kernel says. Raises OSError where there is no connection any more."""
    pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(uid, pid, connection)


class Unattachable(Exception):
    """No process can be held; the text says why. The job goes on unattached."""


class Process(Protocol):
    """One process, held until `close`."""

    pid: int

    def ended(self) -> bool: ...

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call back once, from the event loop, when it has ended (soon, if it has already)."""

    def close(self) -> None: ...


class Processes(Protocol):
    """Where processes come from; a simulation has its own."""

    def behind(self, peer: Peer) -> Process:
        """The process at the other end. Raises Unattachable."""

    def named_by(self, pidfd: int) -> Process:
        """The process of a pidfd that was sent along; the descriptor is taken over. Raises Unattachable."""


class _PidfdProcess:
    """`pidfd` None: it had ended before it could be held. `pid` below 0: and its number is not known."""

    def __init__(self, pid: int, pidfd: int | None) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._watched = False

    def ended(self) -> bool:
        if self.pidfd is None:
            return True
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def on_end(self, callback: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        if self.pidfd is None:
            loop.call_soon(callback)
            return
        loop.add_reader(self.pidfd, self._tell, callback)
        self._watched = True

    def _tell(self, callback: Callable[[], None]) -> None:
        self._unwatch()
        callback()

    def close(self) -> None:
        self._unwatch()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def _unwatch(self) -> None:
        if self._watched and self.pidfd is not None:
            asyncio.get_running_loop().remove_reader(self.pidfd)
        self._watched = False


def descriptor_of(process: Process) -> int | None:
    """Its pidfd; None where it is held by none."""
    return process.pidfd if isinstance(process, _PidfdProcess) else None


class PidfdProcesses:
    """`peer_pidfd` False forces the way of kernels before 6.5."""

    def __init__(self, *, peer_pidfd: bool = True) -> None:
        self._peer_pidfd = peer_pidfd

    def behind(self, peer: Peer) -> Process:
        if not isinstance(peer.handle, socket.socket):
            raise TypeError("a pidfd needs the connection's socket")
        if peer.pid <= 0:
            raise Unattachable("its process lives in another PID namespace")
        if self._peer_pidfd:
            with contextlib.suppress(OSError):
                return _PidfdProcess(peer.pid, peer.handle.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))
        return _by_pid(peer.pid, peer.handle)

    def named_by(self, pidfd: int) -> Process:
        pid = _pid_of(pidfd)
        if pid is None or pid == 0:
            foreign.close(pidfd)
            raise Unattachable("the descriptor sent along is no pidfd of a process that can be seen from here")
        if pid < 0:
            foreign.close(pidfd)
            return _PidfdProcess(pid, None)  # nobody can tell its number any more, but that it is dead
        return _PidfdProcess(pid, pidfd)

    def taken_over(self, pid: int, pidfd: int) -> Process:
        """The process that an earlier daemon held as `pid`; it may have ended meanwhile. The descriptor is taken over.

        Raises Unattachable for a descriptor of anything else.
        """
        if _pid_of(pidfd) not in (pid, -1):
            foreign.close(pidfd)
            raise Unattachable("the descriptor that was kept is no pidfd of the process that was attached")
        return _PidfdProcess(pid, pidfd)


def _by_pid(pid: int, connection: socket.socket) -> Process:
    """Open the pid that connected. It is the same process for sure only if the connection is still open afterwards."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return _PidfdProcess(pid, None)
    except OSError as error:
        raise Unattachable(f"its process cannot be held: {error.strerror}") from None
    if _hung_up(connection):
        os.close(pidfd)
        raise Unattachable("it hung up before its process could be held")
    return _PidfdProcess(pid, pidfd)


def _hung_up(connection: socket.socket) -> bool:
    """Both directions are closed. A peer that only finished writing (nc -N) is still there."""
    poll = select.poll()
    poll.register(connection, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


def _pid_of(descriptor: int) -> int | None:
    """The pid behind a pidfd (0: not visible from here, -1: ended), or None if it is no pidfd."""
    if not foreign.is_pidfd(descriptor):
        return None
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "Pid":
            return int(value)
    return None
