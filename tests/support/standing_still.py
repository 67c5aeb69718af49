"""SIGSTOP: a process that is there and does nothing."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Process(Protocol):
    @property
    def pid(self) -> int | None: ...


@contextmanager
def standing_still(process: Process) -> Iterator[None]:
    """Suspended within the block."""
    pid = process.pid
    assert pid is not None, "it does not run"
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
