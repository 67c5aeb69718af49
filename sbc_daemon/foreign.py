"""Descriptors that others have made: closed where it may take for ever, which is never the event loop.

close() waits where a socket lingers over unsent data, where a terminal or a tape drains, where the server of a file
system does not answer; and so may whatever else is asked of them. The last copy counts as well that the kernel drops of
its own, with a message that is taken without room for what came along (`unread`). Nothing can end such a wait: so few
threads wait, and where much waits for them no descriptor is taken in any more.
"""

import logging
import os
import socket
import struct
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from telemetry_common.logs import fields

log = logging.getLogger(__name__)

MAX_THREADS = 4
MAX_WAITING = 256
"""Descriptors beyond which none is taken in: with the 253 that one message can bring, and what else the sidecar holds,
far below its LimitNOFILE= (4,096)."""
RETRY_SECONDS = 1.0
"""Until whoever had to wait because of that tries again."""
IDLE_SECONDS = 1.0
_PIDFD = ("anon_inode:[pidfd]", "pidfd:")
_NO_LINGER = struct.pack("ii", 0, 0)


def close(descriptor: int) -> None:
    """Close it, now where that never waits (a pidfd), else soon."""
    if is_pidfd(descriptor):
        os.close(descriptor)
    else:
        _closing.add(descriptor)


def crowded() -> bool:
    """So many wait to be closed that no further ones are to be taken in."""
    return _closing.crowded()


def is_pidfd(descriptor: int) -> bool:
    """Without asking anything of what is behind it: that, too, may take for ever."""
    return _name(descriptor).startswith(_PIDFD)


def _name(descriptor: int) -> str:
    """What the kernel calls it; a file's begins with a slash."""
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


class _Closing:
    """Threads come as they are needed and go when nothing was for a second; they keep no process from ending."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._waiting: deque[int] = deque()
        self._threads = 0
        self._idle = 0
        self._said_crowded = False

    def add(self, descriptor: int) -> None:
        with self._news:
            self._waiting.append(descriptor)
            self._news.notify()
        self._see_to_threads()

    def crowded(self) -> bool:
        """Asked before descriptors are taken in: said in the journal on the edges."""
        waiting = len(self._waiting)
        if waiting >= MAX_WAITING:
            self._see_to_threads()
        if (waiting >= MAX_WAITING) != self._said_crowded:
            self._said_crowded = not self._said_crowded
            self._say(waiting)
        return self._said_crowded

    def _say(self, waiting: int) -> None:
        if self._said_crowded:
            log.warning(fields("descriptors sent along cannot be closed; lines that bring more wait", waiting=waiting))
        else:
            log.info("descriptors sent along are closed; lines that bring more are read again")

    def _see_to_threads(self) -> None:
        with self._news:
            if len(self._waiting) <= self._idle or self._threads >= MAX_THREADS:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._run, name="closing", daemon=True).start()
        except RuntimeError:  # no thread to be had: with the next one
            with self._news:
                self._threads -= 1

    def _run(self) -> None:
        while (descriptor := self._next()) is not None:
            _close_patiently(descriptor)

    def _next(self) -> int | None:
        with self._news:
            self._idle += 1
            self._news.wait_for(lambda: self._waiting, IDLE_SECONDS)
            self._idle -= 1
            if self._waiting:
                return self._waiting.popleft()
            self._threads -= 1
            return None


def _close_patiently(descriptor: int) -> None:
    """A socket without lingering: the kernel goes on sending by itself."""
    if not _name(descriptor).startswith("socket:"):
        with suppress(OSError):
            os.close(descriptor)
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor) as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


_closing = _Closing()
