"""`sbc-report run`: the process around a backup tool. It watches and tells; it never stands between tool and backup.

The tool keeps our stdin, stderr and (unless progress is read from it) stdout. Its progress goes to a file, so that our
death or delay cannot reach it. Signals we receive are passed on once; those that a terminal sends to the whole
process group have reached the tool already.
"""

import os
import signal
import time

from sbc_daemon.report.process import CannotStart, Ending, complain, end_like, ending_of, spawn
from sbc_daemon.report.stdout import Stdout
from sbc_daemon.report.tail import ProgressFile
from sbc_daemon.report.telling import Orders, Telling
from sbc_daemon.report.tools import Tool, recognise
from telemetry_common.text import duration

POLL_SECONDS = 0.25
KILL_AFTER_SECONDS = 10.0
TIMED_OUT = 124
"""What timeout(1) returns; here only for a tool that was stopped for its time and still exited with 0."""
ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
FORWARDED = ENDING | {signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}
SENT_BY_KERNEL = 0x80
"""si_code of a signal from a terminal (SI_KERNEL): the whole foreground process group got it."""


def run(orders: Orders) -> int:
    """Run the tool to its end and return its exit code; if a signal killed it, die by the same signal."""
    stdout = Stdout()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED | {signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    telling = Telling(orders)
    tool = recognise(orders.command)
    progress = _progress_file(tool, stdout)
    try:
        pid = _start(tool, progress, set(mask))
    except CannotStart as error:
        complain(str(error))
        telling.failed(str(error))
        return error.exit_code
    return Wrapped(pid, tool, progress, stdout, telling, orders.timeout_seconds).to_the_end()


def _start(tool: Tool, progress: ProgressFile | None, mask: set[int]) -> int:
    if progress is None:
        return spawn(tool.original, mask, None)
    named_in_arguments = tool.wants == "descriptor"
    os.set_inheritable(progress.descriptor, named_in_arguments)
    return spawn(tool.command(progress.descriptor), mask, None if named_in_arguments else progress.descriptor)


def _progress_file(tool: Tool, stdout: Stdout) -> ProgressFile | None:
    if tool.wants == "nothing" or (tool.wants == "stdout" and not stdout.is_open):
        return None
    try:
        return ProgressFile()
    except OSError:
        return None


class Wrapped:
    """The running tool: one loop that wakes for signals, for the tool's end, and four times a second to look."""

    def __init__(
        self,
        pid: int,
        tool: Tool,
        progress: ProgressFile | None,
        stdout: Stdout,
        telling: Telling,
        timeout_seconds: float | None,
    ) -> None:
        self._pid, self._tool, self._progress, self._stdout = pid, tool, progress, stdout
        self._telling = telling
        self._limit = timeout_seconds
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._stops = [signal.SIGTERM, signal.SIGKILL]

    def to_the_end(self) -> int:
        ending = self._watch()
        self._stdout.finish(ENDING)
        if self._stopped_for_its_time():
            limit = self._limit or 0.0
            shown = duration(limit) if limit >= 1 else f"{limit:g}s"
            self._telling.failed(f"{self._tool.name} timed out after {shown} (--timeout): {ending.described('it')}")
            return end_like(ending.exit_code or TIMED_OUT)
        if ending.exit_code == 0:
            self._telling.completed(self._tool)
        else:
            self._telling.failed(ending.described(self._tool.name))
        return end_like(ending.exit_code)

    def _watch(self) -> Ending:
        while True:
            heard = signal.sigtimedwait(FORWARDED | {signal.SIGCHLD}, POLL_SECONDS)
            if heard is not None and heard.si_signo in FORWARDED and heard.si_code != SENT_BY_KERNEL:
                os.kill(self._pid, heard.si_signo)
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            self._read_progress(ended=bool(ended))
            if ended:
                return ending_of(status)
            self._mind_the_time()

    def _mind_the_time(self) -> None:
        if self._deadline is not None and self._stops and time.monotonic() >= self._deadline:
            os.kill(self._pid, self._stops.pop(0))
            self._deadline = time.monotonic() + KILL_AFTER_SECONDS

    def _stopped_for_its_time(self) -> bool:
        return signal.SIGTERM not in self._stops

    def _read_progress(self, *, ended: bool) -> None:
        if self._progress is None:
            return
        while data := self._progress.new_bytes():
            self._stdout.put(self._tool.feed(data, ended=False))
        self._stdout.put(self._tool.feed(b"", ended=True) if ended else b"")
        if self._tool.wants == "descriptor" and not ended:
            self._progress.drop_what_was_read()
        self._telling.progress(self._tool)
