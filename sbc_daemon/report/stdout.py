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
        while self._rest and self._wrote(0.0):
            pass

    def finish(self, until: AbstractSet[signal.Signals]) -> None:
        """Wait for the reader, as the tool would have done, until one of these (blocked) signals arrives."""
        while self._rest and (self._wrote(LOOK_SECONDS) or signal.sigtimedwait(until, 0.01) is None):
            pass

    def _wrote(self, seconds: float) -> bool:
        """Whether something left within this time, or nothing ever will."""
        if self._descriptor is None:
            self._rest.clear()
            return True
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        if not poll.poll(seconds * 1000):
            return False
        try:
            # What is writable takes this much without blocking (pipe(7)).
            del self._rest[: os.write(self._descriptor, self._rest[: select.PIPE_BUF])]
        except BlockingIOError:
            return False
        except OSError:  # nobody reads it any more
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None
        return True
