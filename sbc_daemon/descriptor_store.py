"""systemd's file descriptor store (sd_pid_notify_with_fds(3)): what is put there outlives this process.

Sent without waiting. Whatever does not work out only means that a descriptor is not kept, as where there is no store.
"""

import array
import asyncio
import logging
import socket
from collections import deque
from collections.abc import Iterable, Mapping

from telemetry_common.logs import fields

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.1
"""Between two attempts to have something removed while systemd does not read."""


def capacity_of(environ: Mapping[str, str], configured: int) -> int:
    """How many descriptors the store takes: systemd says it from version 254 on, before that the configuration does.

    0 where it is configured not to use one.
    """
    said = environ.get("FDSTORE", "")
    return int(said) if configured and said.isdigit() else configured


class DescriptorStore:
    """At most `capacity` names, a descriptor each. `address` is NOTIFY_SOCKET: a path, or (with @) an abstract name."""

    def __init__(self, address: str, capacity: int, taken_over: Iterable[str] = ()) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.capacity = capacity
        self._names = set(taken_over)
        self._to_remove: deque[str] = deque()
        self._said_full = False
        self._retry: asyncio.TimerHandle | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def __len__(self) -> int:
        return len(self._names)

    def put(self, name: str, descriptor: int) -> bool:
        """Keep it under this name, also when its other end hangs up. False: it is not kept."""
        if len(self._names) >= self.capacity:
            self._say_full()
            return False
        # FDPOLL=0: systemd would drop what has hung up, unread bytes and all, and a process that has ended.
        if not self._send(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", descriptor):
            return False
        self._names.add(name)
        return True

    def remove(self, name: str) -> None:
        """Forget the name, which need not be one that was put; at once, or as soon as systemd reads."""
        self._to_remove.append(name)
        if self._retry is None:
            self._remove_waiting()

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._socket.close()

    def _remove_waiting(self) -> None:
        self._retry = None
        while self._to_remove:
            if not self._send(f"FDSTOREREMOVE=1\nFDNAME={self._to_remove[0]}"):
                self._retry = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._remove_waiting)
                return
            self._names.discard(self._to_remove.popleft())

    def _send(self, message: str, *descriptors: int) -> bool:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._socket.sendmsg([message.encode()], rights, socket.MSG_NOSIGNAL, self._address)
        except OSError:
            return False
        return True

    def _say_full(self) -> None:
        if self.capacity and not self._said_full:
            self._said_full = True
            log.warning(fields("descriptor store is full; what comes now does not outlive a restart", of=self.capacity))


def store_of(environ: Mapping[str, str], configured: int, taken_over: Iterable[str]) -> DescriptorStore | None:
    """The store of this process's service manager; None where there is no manager."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return None
    return DescriptorStore(address, capacity_of(environ, configured), taken_over)
