"""Bytes that are read and stay in the kernel: each is looked at once (SO_PEEK_OFF), and taken later.

Descriptors wait there with the bytes that they came with. What is taken without room for them, or closed with them
unread, the kernel closes then and there: so all are taken in, and closed by `foreign`.
"""

import array
import contextlib
import fcntl
import socket
import sys
import termios

from sbc_daemon import foreign

SO_PEEK_OFF = 42
"""<asm-generic/socket.h>; Python has no name for it."""
_PIECE_BYTES = 64 << 10
ANCILLARY_BYTES = socket.CMSG_LEN(253 * array.array("i").itemsize)
"""Room for as many descriptors as a message can bring (SCM_MAX_FD)."""
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


def take(connection: socket.socket, count: int) -> int:
    """Have the kernel forget so many that were looked at; how many it was. Fewer where descriptors came with them and
    `foreign` is crowded."""
    left = count
    with contextlib.suppress(OSError):
        while left > 0 and not (foreign.crowded() and _bring_descriptors(connection, min(left, _PIECE_BYTES), 0)):
            taken, ancillary, _, _ = connection.recvmsg_into(
                [_scratch[:left]], ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
            )
            for descriptor in descriptors(ancillary):
                foreign.close(descriptor)
            if not taken:
                break
            left -= taken
    return count - left


def must_wait(connection: socket.socket, size: int) -> bool:
    """The next piece of that size, from where looking goes on, brings descriptors, and `foreign` is crowded."""
    return foreign.crowded() and _bring_descriptors(connection, size, None)


def descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors sent along; they are this process's from now on, to be used or closed."""
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def close(connection: socket.socket) -> None:
    """Close it, also with bytes unread: descriptors may lie among them."""
    if unread_bytes(connection):
        foreign.close(connection.detach())
    else:
        connection.close()


def _bring_descriptors(connection: socket.socket, size: int, offset: int | None) -> bool:
    """Whether the next so many bytes do; looked at from `offset`, and as if they had not been."""
    goes_on_at = connection.getsockopt(socket.SOL_SOCKET, SO_PEEK_OFF)
    try:
        if offset is not None:
            connection.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, offset)
        flags = connection.recvmsg(size, 0, socket.MSG_PEEK)[2]
    except OSError:
        return False
    finally:
        connection.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, goes_on_at)
    return bool(flags & socket.MSG_CTRUNC)
