"""The service manager's file descriptor store, as systemd 252 has it, around one daemon."""

import array
import os
import select
import socket
from collections.abc import Sequence
from pathlib import Path

from testbed.processes import Manager

_ROOM = socket.CMSG_SPACE(16 * array.array("i").itemsize)
_SYNC = "X_SYNC"


class DescriptorKeeper(Manager):
    """Holds what it is sent with FDSTORE=1, at most `capacity`, and hands it to every start of the daemon.

    What was not sent with FDPOLL=0 is dropped when it hangs up. Without `capacity` it is a manager without a store.
    """

    def __init__(self, path: Path, capacity: int = 1536) -> None:
        self._capacity = capacity
        self._held: list[tuple[str, int]] = []
        self._poll = select.epoll()
        super().__init__(path)

    @property
    def names(self) -> list[str]:
        """The names of what is held."""
        return [name for name, _ in self.stored()]

    def stored(self) -> Sequence[tuple[str, int]]:
        """As of now: all that was sent before this call counts."""
        self._sync()
        with self._news:
            return list(self._held)

    def wait_until_empty(self, seconds: float) -> bool:
        with self._news:
            return self._news.wait_for(lambda: not self._held, seconds)

    def put(self, name: str, descriptor: int) -> None:
        """Hold this, too: the descriptor is taken over."""
        with self._news:
            self._held.append((name, descriptor))

    def lose(self) -> None:
        """Drop everything, as `systemctl stop` does."""
        with self._news:
            for name in {name for name, _ in self._held}:
                self._remove(name)

    def close(self) -> None:
        super().close()
        self.lose()
        self._poll.close()

    def _sync(self) -> None:
        """Wait until everything that was sent up to now has been read."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            with self._news:
                self._heard.pop(_SYNC, None)
            sender.sendto(f"{_SYNC}=1".encode(), str(self.path))
        if not self.wait_for(_SYNC, 20):
            raise TimeoutError("the service manager does not read its socket")

    def _listen(self) -> None:
        own = self._socket.fileno()
        self._poll.register(own, select.EPOLLIN)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor != own:
                    self._hung_up(descriptor)
                elif not self._read():
                    return

    def _read(self) -> bool:
        message, ancillary, _, _ = self._socket.recvmsg(65536, _ROOM, socket.MSG_CMSG_CLOEXEC)
        rights = array.array("i")
        for _, _, data in ancillary:
            rights.frombytes(data)
        fields = dict(line.split("=", 1) for line in message.decode().splitlines())
        with self._news:
            if fields.get("FDSTORE") == "1":
                self._store(fields, list(rights))
            elif fields.get("FDSTOREREMOVE") == "1":
                self._remove(fields["FDNAME"])
        if message:
            self._take(message)
        return bool(message)

    def _store(self, fields: dict[str, str], descriptors: Sequence[int]) -> None:
        for descriptor in descriptors:
            if len(self._held) >= self._capacity:
                os.close(descriptor)
                continue
            self._held.append((fields.get("FDNAME", "stored"), descriptor))
            if fields.get("FDPOLL") != "0":
                self._poll.register(descriptor, 0)  # EPOLLHUP and EPOLLERR come unasked

    def _remove(self, wanted: str) -> None:
        for name, descriptor in [one for one in self._held if one[0] == wanted]:
            self._held.remove((name, descriptor))
            os.close(descriptor)

    def _hung_up(self, descriptor: int) -> None:
        with self._news:
            self._held = [one for one in self._held if one[1] != descriptor]
            os.close(descriptor)
            self._news.notify_all()
