"""The listening sockets that systemd made and handed over (sd_listen_fds(3)), without which a daemon binds its own."""

import os
import socket
from collections.abc import MutableMapping
from typing import NamedTuple

FIRST = 3
"""SD_LISTEN_FDS_START: where the handed-over descriptors begin."""


class HandedOver(NamedTuple):
    """A descriptor of any kind, open and not inheritable, under the name that the unit or this program gave it."""

    name: str
    descriptor: int


def descriptors(environ: MutableMapping[str, str] = os.environ) -> list[HandedOver]:
    """Everything that was handed over, in its order: sockets of units, and what was kept in the descriptor store.

    The variables are taken out of `environ`, so that no child believes they are meant for it.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    found = []
    for offset in range(int(count)):
        os.set_inheritable(FIRST + offset, False)
        found.append(HandedOver(names[offset] if offset < len(names) else "unknown", FIRST + offset))
    return found


def inherited(environ: MutableMapping[str, str] = os.environ) -> dict[str, list[socket.socket]]:
    """The same by name, for a daemon that is handed nothing but sockets; empty without activation."""
    return by_name(descriptors(environ))


def by_name(handed_over: list[HandedOver]) -> dict[str, list[socket.socket]]:
    """Sockets by their FDNAME (the socket unit's name when none is set)."""
    found: dict[str, list[socket.socket]] = {}
    for name, descriptor in handed_over:
        found.setdefault(name, []).append(socket.socket(fileno=descriptor))
    return found
