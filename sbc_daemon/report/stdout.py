"""The real stdout of a tool whose progress is taken out of what it writes there: the rest of it, byte for byte."""

import contextlib
import fcntl
import os
import select
import signal
from collections.abc import Set as AbstractSet

from sbc_daemon.report.tail import LOWEST_DESCRIPTOR

LOOK_SECONDS = 0.25


class Stdout:
    """Take it before anything else is opened: where stdout is closed, descriptor 1 will soon be something else."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):
            self._descriptor = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, LOWEST_DESCRIPTOR)

    @property
    def is_open(self) -> bool:
        return self._descriptor is not None

    def put(self, data: bytes) -> None:
        """Pass on as much as its reader takes now: one that has stopped reading must not keep signals from the tool."""
        self._rest += data
        while self._rest and self._takes_more(0.0):
            self._write()

    def finish(self, until: AbstractSet[signal.Signals]) -> None:
        """Wait for the reader, as the tool would have done, until one of these (blocked) signals arrives."""
        while self._rest and self._descriptor is not None:
            if self._takes_more(LOOK_SECONDS):
                self._write()
            elif signal.sigtimedwait(until, 0) is not None:
                return

    def _takes_more(self, seconds: float) -> bool:
        if self._descriptor is None:
            self._rest.clear()
            return False
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def _write(self) -> None:
        """What is writable takes this much without blocking (pipe(7))."""
        try:
            del self._rest[: os.write(self._descriptor or 0, self._rest[: select.PIPE_BUF])]
        except BlockingIOError:
            return
        except OSError:  # nobody reads it any more
            with contextlib.suppress(OSError):
                os.close(self._descriptor or 0)
            self._descriptor = None
