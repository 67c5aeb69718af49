"""Starting the wrapped tool and ending as it ended: what a shell would do, and nothing more."""

import contextlib
import errno
import os
import resource
import shutil
import signal
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from telemetry_common.text import printable

NOT_FOUND = 127
NOT_EXECUTABLE = 126


class CannotStart(Exception):
    """Its text names the program and the cause; `exit_code` is what a shell would have returned."""

    def __init__(self, program: str, error: OSError) -> None:
        super().__init__(f"cannot run {program or 'a command without a name'}: {error.strerror}")
        self.exit_code = NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE


def complain(text: str) -> None:
    """One line on stderr, where there is one: a report must not fail a backup, not even for want of a terminal."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"sbc-report: {printable(text)}", file=sys.stderr, flush=True)


def spawn(command: Sequence[str], mask: Iterable[int], stdout: int | None) -> int:
    """Start the tool in our process group, with our streams and the signal mask we were started with; its pid.

    `stdout` is put in the place of its standard output. In the same process group it gets a terminal's signals itself,
    and job control works. Raises CannotStart.
    """
    try:
        if not command[0]:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        try:
            return _posix_spawn(command, mask, stdout)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            script = shutil.which(command[0]) or command[0]
            return _posix_spawn(["/bin/sh", script, *command[1:]], mask, stdout)
    except OSError as error:
        raise CannotStart(command[0], error) from None


def _posix_spawn(command: Sequence[str], mask: Iterable[int], stdout: int | None) -> int:
    placed = [] if stdout is None else [(os.POSIX_SPAWN_DUP2, stdout, 1)]
    ignored_by_python = [signal.SIGPIPE, signal.SIGXFSZ]
    return os.posix_spawnp(
        command[0], list(command), os.environ, file_actions=placed, setsigmask=mask, setsigdef=ignored_by_python
    )


class Ending(NamedTuple):
    """How a tool ended. `exit_code` as in subprocess: negative for death by a signal."""

    exit_code: int
    core_dumped: bool = False

    def described(self, name: str) -> str:
        """In words, for whoever looks at the failed job."""
        if self.exit_code >= 0:
            return f"{name} exited with code {self.exit_code}"
        number = -self.exit_code
        core = ", core dumped" if self.core_dumped else ""
        return f"{name} was killed by signal {number} ({signal_name(number)}{core})"


def ending_of(status: int) -> Ending:
    """From the status that wait(2) tells."""
    return Ending(os.waitstatus_to_exitcode(status), os.WIFSIGNALED(status) and os.WCOREDUMP(status))


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number >= signal.SIGRTMIN else "unknown"


def end_like(exit_code: int) -> int:
    """The exit code to return; where the tool died by a signal, die by the same (without a second core dump)."""
    if exit_code >= 0:
        return exit_code
    number = -exit_code
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    # 1 and not 0: it also keeps the kernel from piping the core to a program (core(5)), where a limit of 0 does not
    resource.setrlimit(resource.RLIMIT_CORE, (0 if hard == 0 else 1, hard))
    with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler to reset
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 + number
