"""`sbc-report` as a process of its own, the command that it wraps, and a terminal to run it on."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPORT = [sys.executable, "-m", "sbc_daemon.report.command"]
SH = ["sh", "-c"]


def wrapped(socket_path: Path, *command: str, options: tuple[str, ...] = ()) -> list[str]:
    return [*REPORT, "run", "--job", "j1", "--socket", str(socket_path), *options, "--", *command]


def started(socket_path: Path, script: str, *options: str, **how: Any) -> "subprocess.Popen[bytes]":
    """A wrapped shell script that has said `ready` on its stdout."""
    process = subprocess.Popen(wrapped(socket_path, *SH, script, options=options), stdout=subprocess.PIPE, **how)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def tool_of(process: "subprocess.Popen[bytes]") -> int:
    """The pid of the command under the wrapper."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


class Terminal:
    """A command as the leader of a session on a terminal of its own."""

    def __init__(self, command: list[str]) -> None:
        self.seen = b""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execv(command[0], command)  # noqa: S606  # this is the child of pty.fork; subprocess has no controlling terminal

    def types(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def shows(self, text: bytes, seconds: float = 20.0) -> None:
        """Wait until it has been shown since the last call."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert self._ready(deadline - time.monotonic()), self.seen
            assert self._read(), self.seen
        self.seen = self.seen.partition(text)[2]

    def end(self) -> int:
        """Wait for its end; the exit code, or minus the signal."""
        while self._ready(20.0) and self._read():
            pass
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _ready(self, seconds: float) -> bool:
        return bool(select.select([self._terminal], [], [], max(0.0, seconds))[0])

    def _read(self) -> bool:
        try:
            data = os.read(self._terminal, 4096)
        except OSError:  # EIO: nobody has it open any more
            return False
        self.seen += data
        return bool(data)
