"""The servers that have the hub's database, and the order in which they are tried. Pure.

One that served stays in use until it fails: a hub that went back to the first at every error would, as long as that one
is dead, wait for it each time.
"""

from collections.abc import Sequence
from typing import NamedTuple

PORT = 3306


class Server(NamedTuple):
    """Where one listens: over TCP, or (with an empty host) on its Unix socket."""

    host: str
    port: int
    socket: str = ""

    def __str__(self) -> str:
        if not self.host:
            return self.socket
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def server(address: str) -> Server:
    """`db1`, `db1:3307`, `10.0.0.5`, `[fc00::5]:3306`. Raises ValueError, fit for the operator."""
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, str(PORT)
    bracketed = host.startswith("[") and host.endswith("]")
    name = host[1:-1] if bracketed else host
    fine = name and name.isascii() and name.isprintable() and not any(mark in name for mark in " []/@,'\"\\")
    if not fine or (":" in name) != bracketed or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"`hosts` must be HOST or HOST:PORT, such as db1:3306 or [fc00::5]:3306, not {address!r}")
    return Server(name, int(port))


class Servers:
    """Which is tried first. Shared by the threads that connect: each step is one assignment."""

    def __init__(self, known: Sequence[Server]) -> None:
        self._known = tuple(known)
        self._first = 0

    def in_order(self) -> tuple[Server, ...]:
        """The one in use, then those behind it in the list, then those before it."""
        first = self._first
        return self._known[first:] + self._known[:first]

    def serves(self, one: Server) -> bool:
        """It is in use from now on; True when another one was before."""
        place = self._known.index(one)
        changed, self._first = place != self._first, place
        return changed

    def failed(self, one: Server) -> None:
        """It is tried last from now on, if it was the one in use: what it cannot do now another may."""
        if self._known[self._first] == one:
            self._first = (self._first + 1) % len(self._known)
