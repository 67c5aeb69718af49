"""The listening sockets that systemd made and handed over (sd_listen_fds(3)), without which a daemon binds its own."""

import os
import socket
from collections.abc import MutableMapping

FIRST = 3
"""SD_LISTEN_FDS_START: where the handed-over descriptors begin."""


def inherited(environ: MutableMapping[str, str] = os.environ) -> dict[str, list[socket.socket]]:
    """Handed-over sockets by their FDNAME (the socket unit's name when none is set); empty without activation.

    The variables are taken out of `environ`, so that no child believes they are meant for it.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    found: dict[str, list[socket.socket]] = {}
    for offset in range(int(count)):
        descriptor = FIRST + offset
        os.set_inheritable(descriptor, False)
        name = names[offset] if offset < len(names) else "unknown"
        found.setdefault(name, []).append(socket.socket(fileno=descriptor))
    return found
