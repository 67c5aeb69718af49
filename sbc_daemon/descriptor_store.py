"""systemd's file descriptor store (sd_pid_notify_with_fds(3)): what is put there outlives this process.

Sent without waiting, and again later where systemd takes nothing for now. What does not work out only means that a
descriptor is not kept, as where there is no store.
"""

import array
import asyncio
import logging
import socket
from collections.abc import Iterable, Mapping

from telemetry_common.logs import fields

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.002
"""Between two attempts while its queue is full (512 messages, where systemd could not raise it 10)."""
LAG_SECONDS = 1.0
"""So long it is worth waiting for; a service manager that never reads must not keep producers waiting."""
SLOW_RETRY_SECONDS = 0.1
"""Between two attempts after that."""


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
        self._to_put: dict[str, int] = {}
        self._to_remove: dict[str, None] = {}
        self._said_full = False
        self._retry: asyncio.TimerHandle | None = None
        self._lagging_since: float | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    @property
    def lagging(self) -> bool:
        """Something that was put is not sent yet, and soon will be: a kill would lose it."""
        if self._lagging_since is None:
            return False
        return asyncio.get_running_loop().time() - self._lagging_since < LAG_SECONDS

    def put(self, name: str, descriptor: int) -> bool:
        """Keep it under this name, also when its other end hangs up; False where there is no room.

        It must stay open until it is removed: it is sent again and again while systemd does not read.
        """
        if len(self._names) >= self.capacity:
            self._say_full()
            return False
        self._names.add(name)
        self._to_put[name] = descriptor
        self._send_some()
        return True

    def remove(self, name: str) -> None:
        """Forget the name, which need not be one that was put."""
        self._names.discard(name)
        if self._to_put.pop(name, None) is None:
            self._to_remove[name] = None
            self._send_some()

    def waits(self, name: str) -> bool:
        """It was put, and is not sent yet."""
        return name in self._to_put

    def give_up(self, name: str) -> None:
        """Its descriptor is closed: if it is not sent by now it is not kept."""
        self._to_put.pop(name, None)

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._socket.close()

    def _send_some(self) -> None:
        """What waits, until it is sent or systemd takes no more for now. What comes now waits behind it."""
        if self._retry is not None:
            return
        try:
            while self._to_put:
                name, descriptor = next(iter(self._to_put.items()))
                # FDPOLL=0: systemd would drop what has hung up, unread bytes and all, and a process that has ended.
                self._send(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", descriptor)
                del self._to_put[name]
            while self._to_remove:
                name = next(iter(self._to_remove))
                self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")
                del self._to_remove[name]
        except OSError:
            loop = asyncio.get_running_loop()
            self._lagging_since = self._lagging_since or loop.time()
            seconds = RETRY_SECONDS if self.lagging else SLOW_RETRY_SECONDS
            self._retry = loop.call_later(seconds, self._try_again)
        else:
            self._lagging_since = None

    def _try_again(self) -> None:
        self._retry = None
        self._send_some()

    def _send(self, message: str, *descriptors: int) -> None:
        """Raises OSError: BlockingIOError where it would have to wait."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self._socket.sendmsg([message.encode()], rights, socket.MSG_NOSIGNAL, self._address)

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
