"""`sbc-report run`: the process around a backup tool. It watches and tells; it never stands between tool and backup.

The tool keeps our stdin, stderr and (unless progress is read from it) stdout. Its progress goes to a file, so that our
death or delay cannot reach it. Signals we receive are passed on once; those that a terminal sends to the whole
process group have reached the tool already.
"""

import contextlib
import fcntl
import os
import select
import signal
import time
from dataclasses import dataclass

from sbc_daemon.client import Job
from sbc_daemon.client_wire import socket_path
from sbc_daemon.report.process import CannotStart, complain, describe, end_like, spawn
from sbc_daemon.report.tail import LOWEST_DESCRIPTOR, ProgressFile
from sbc_daemon.report.tools import Tool, recognise
from telemetry_common.text import duration

POLL_SECONDS = 0.25
KILL_AFTER_SECONDS = 10.0
TIMED_OUT = 124
"""What timeout(1) returns; here only for a tool that was stopped for its time and still exited with 0."""
HIGHEST_PERCENT = 99.0
"""Until the exit status says so, nothing is finished."""
CONFIRM_SECONDS = 2.0
"""So long the end of a run waits for the sidecar to have it safe on its disk."""
ABSENT_SECONDS = 0.3
"""The same where no sidecar is to be seen: time for one that is just being restarted."""
FORWARDED = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
    }
)
SENT_BY_KERNEL = 0x80
"""si_code of a signal from a terminal (SI_KERNEL): the whole foreground process group got it."""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """`disk` and `of`: the tool copies this disk of a job that has `of`. Without a job id the tool runs unreported."""

    command: list[str]
    job_id: str | None = None
    socket: str | None = None
    disk: int | None = None
    of: int | None = None
    total_bytes: int | None = None
    timeout_seconds: float | None = None
    phase: str = "transferring"


def run(orders: Orders) -> int:
    """Run the tool to its end and return its exit code; if a signal killed it, die by the same signal."""
    stdout = _own_copy_of_stdout()
    watched = FORWARDED | {signal.SIGCHLD}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
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


def _own_copy_of_stdout() -> int | None:
    """Taken before anything else is opened: where stdout is closed, descriptor 1 will soon be something else."""
    try:
        return fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, LOWEST_DESCRIPTOR)
    except OSError:
        return None


def _progress_file(tool: Tool, stdout: int | None) -> ProgressFile | None:
    if tool.wants == "nothing" or (tool.wants == "stdout" and stdout is None):
        return None
    try:
        return ProgressFile()
    except OSError:
        return None


class Telling:
    """What the sidecar is told of the run. Nothing here can fail the tool, also without a usable job id."""

    def __init__(self, orders: Orders) -> None:
        self._disk = orders.disk
        self._total = orders.total_bytes
        self._fixed_total = orders.total_bytes is not None
        self._best = 0
        self._job = self._announce(orders)

    def progress(self, tool: Tool) -> None:
        """The newest figures: bytes where the total is known, else the tool's percentage; never the whole."""
        if self._job is None or tool.percent is None:
            return
        self._learn_total(tool, ended=False)
        if self._total is None:
            self._job.percent(min(tool.percent, HIGHEST_PERCENT), disk=self._disk)
            return
        done = min(tool.done(self._total) or 0, int(self._total * HIGHEST_PERCENT / 100))
        self._best = max(self._best, done)
        self._job.progress(self._best, disk=self._disk)

    def completed(self, tool: Tool) -> None:
        if self._job is None:
            return
        self._learn_total(tool, ended=True)
        if self._total is not None:
            self._job.progress(self._total, disk=self._disk)
        self._job.done(timeout=_patience(self._job))

    def failed(self, reason: str) -> None:
        if self._job is not None:
            self._job.fail(reason, timeout=_patience(self._job))

    def _learn_total(self, tool: Tool, *, ended: bool) -> None:
        found = None if self._fixed_total else tool.total(ended=ended)
        if self._job is not None and found is not None and found != self._total:
            self._total = found
            self._job.total(found, disk=self._disk)

    def _announce(self, orders: Orders) -> Job | None:
        if not orders.job_id:
            complain("cannot report without a job: give --job or set SBC_JOB_ID; the command runs all the same")
            return None
        path = socket_path(orders.socket)
        os.environ["SBC_JOB_ID"], os.environ["SBC_SOCKET"] = orders.job_id, path
        whole_job = orders.disk is None or orders.of is None
        own = None if whole_job else ([orders.disk or 0], orders.of or 1)
        sizes = {} if orders.disk is None or orders.total_bytes is None else {orders.disk: orders.total_bytes}
        total = orders.total_bytes if orders.disk is None else None
        try:
            return Job(orders.job_id, total_bytes=total, disks=sizes, phase=orders.phase, attach_disks=own, path=path)
        except (ValueError, OSError, RuntimeError) as error:  # a wrong id; no descriptor or no thread left
            complain(f"cannot report: {error}; the command runs all the same")
            return None


def _patience(job: Job) -> float:
    return CONFIRM_SECONDS if job.connected else ABSENT_SECONDS


class Wrapped:
    """The running tool: one loop that wakes for signals, for the tool's end, and four times a second to look."""

    def __init__(
        self,
        pid: int,
        tool: Tool,
        progress: ProgressFile | None,
        stdout: int | None,
        telling: Telling,
        timeout_seconds: float | None,
    ) -> None:
        self._pid, self._tool, self._progress, self._stdout = pid, tool, progress, stdout
        self._telling = telling
        self._limit = timeout_seconds
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._stops = [signal.SIGTERM, signal.SIGKILL]

    def to_the_end(self) -> int:
        exit_code = self._watch()
        if self._stopped_for_its_time():
            self._telling.failed(f"{self._tool.name} timed out after {duration(self._limit or 0)}")
            return end_like(exit_code or TIMED_OUT)
        if exit_code == 0:
            self._telling.completed(self._tool)
        else:
            self._telling.failed(describe(self._tool.name, exit_code))
        return end_like(exit_code)

    def _watch(self) -> int:
        while True:
            heard = signal.sigtimedwait(FORWARDED | {signal.SIGCHLD}, POLL_SECONDS)
            if heard is not None and heard.si_signo in FORWARDED and heard.si_code != SENT_BY_KERNEL:
                os.kill(self._pid, heard.si_signo)
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            self._read_progress(ended=bool(ended))
            if ended:
                return os.waitstatus_to_exitcode(status)
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
            self._pass_on(self._tool.feed(data, ended=False))
        if ended:
            self._pass_on(self._tool.feed(b"", ended=True))
        elif self._tool.wants == "descriptor":
            self._progress.drop_what_was_read()
        self._telling.progress(self._tool)

    def _pass_on(self, data: bytes) -> None:
        """What the tool wrote to stdout besides progress, as a whole, to where it would have gone."""
        rest = memoryview(data)
        while rest and self._stdout is not None:
            try:
                rest = rest[os.write(self._stdout, rest) :]
            except BlockingIOError:
                select.select([], [self._stdout], [])
            except OSError:  # nobody reads it any more
                with contextlib.suppress(OSError):
                    os.close(self._stdout)
                self._stdout = None
