"""Bytes that are read and stay in the kernel: each is looked at once (SO_PEEK_OFF), and taken later."""

import contextlib
import fcntl
import socket
import sys
import termios

SO_PEEK_OFF = 42
"""<asm-generic/socket.h>; Python has no name for it."""
_PIECE_BYTES = 64 << 10
_scratch = memoryview(bytearray(_PIECE_BYTES))


def look_from_the_start(connection: socket.socket) -> None:
    """The next MSG_PEEK begins with the first unread byte, and each further one where the last ended."""
    connection.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)


def first_bytes(connection: socket.socket, size: int) -> bytes:
    """At most so many; looking begins from the start again."""
    try:
        data = connection.recv(size, socket.MSG_PEEK)
    except OSError:
        data = b""
    look_from_the_start(connection)
    return data


def unread_bytes(connection: socket.socket) -> int:
    """How many wait in the kernel, looked at or not."""
    return int.from_bytes(fcntl.ioctl(connection, termios.FIONREAD, bytes(4)), sys.byteorder)


def take(connection: socket.socket, count: int) -> None:
    """Have the kernel forget so many that were looked at, and descriptors that came with them."""
    with contextlib.suppress(OSError):
        while count > 0 and (taken := connection.recv_into(_scratch, min(count, _PIECE_BYTES))):
            count -= taken
