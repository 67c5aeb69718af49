"""For how long the kernel has had what is read now.

systemd keeps the listening socket while the hub is down: who connects then can say all they have to say, and give up
waiting for an answer. The next hub reads it hours later. The ages in it are as of then.
"""

import socket
import struct
from typing import Protocol

from msgspec import UNSET, structs

from telemetry_common.contract import Update

LEAST_SECONDS = 0.1
"""What is less is the ordinary way of a request to a busy hub."""
_LAST_DATA_RECEIVED = struct.Struct("=52xI")
"""In `struct tcp_info` of <linux/tcp.h>: tcpi_last_data_recv, milliseconds."""


class Socket(Protocol):
    """As much of one as asyncio shows of a connection's."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


def unread_seconds(connection: Socket) -> float:
    """Since the last of it was received, where something has just been read; 0 where nobody can tell."""
    try:
        known = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED.size)
        (milliseconds,) = _LAST_DATA_RECEIVED.unpack(known)
    except (OSError, struct.error):
        return 0.0
    return milliseconds / 1000 if milliseconds >= LEAST_SECONDS * 1000 else 0.0


def aged(update: Update, seconds: float) -> Update:
    """The update, so much older."""
    if not seconds:
        return update
    before = 0.0 if update.age_seconds is UNSET else update.age_seconds
    return structs.replace(update, age_seconds=before + seconds)
