"""The real daemons as child processes: configured by a file, watched through sd_notify, stopped by their pid.

A child dies with the thread that started it (PR_SET_PDEATHSIG), so that nothing stays behind when its owner is killed:
start it from the main thread. It is in a process group of its own, so that a Ctrl-C in the terminal reaches only the
owner, which then stops its children in order.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from telemetry_common import settings

_START_SECONDS = 30.0
_STOP_SECONDS = 30.0
ENOUGH_PORTS = 1000
_MANAGERS_OWN = ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "JOURNAL_STREAM", "SHA_", "SBC_")
"""Variables that would make a child believe it has another service manager or another configuration."""


class DaemonFailed(Exception):
    """A daemon did not start or did not stop. Its text ends with the last lines of its log."""


def installed(program: str) -> str:
    """The program of this project that stands beside the interpreter in use."""
    return str(Path(sys.executable).with_name(program))


def free_port() -> int:
    """A TCP port on 127.0.0.1 that is free now, and that the kernel gives to no connection.

    From the range that it gives to connections, one could be the sender's own end while a killed hub is away: the hub
    could not listen there again, or the sender would be connected to itself.
    """
    lowest, highest = _own_ports(*_ports_for_connections())
    for _ in range(1000):
        port = random.randint(lowest, highest)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise DaemonFailed(f"cannot find a free port between {lowest} and {highest}")


def _own_ports(first: int, last: int) -> tuple[int, int]:
    """Ports beside those that the kernel gives to connections, or all where it gives nearly every one."""
    if first - 10_000 >= ENOUGH_PORTS:
        return 10_000, first - 1
    return (last + 1, 65_535) if 65_535 - last >= ENOUGH_PORTS else (10_000, 65_535)


def _ports_for_connections() -> tuple[int, int]:
    first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    return int(first), int(last)


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would steer one of our programs, and `more`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_MANAGERS_OWN)}
    return kept | dict(more or {})


def dying_with_us(command: list[str]) -> list[str]:
    """`command`, killed by the kernel when the thread that starts it ends. No code runs between fork and exec."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *command]


_HAND_OVER = """
import fcntl, os, sys
numbers = [int(number) for number in sys.argv[1].split(",")]
given = [fcntl.fcntl(number, fcntl.F_DUPFD, 3 + len(numbers)) for number in numbers]
for number in numbers:
    os.close(number)
for place, descriptor in enumerate(given):
    os.dup2(descriptor, 3 + place)
    os.close(descriptor)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What systemd does between fork and exec: sockets from descriptor 3 on, and LISTEN_PID, which only the child knows."""


class Manager:
    """The service manager's end of sd_notify for one daemon: hears READY, STATUS, WATCHDOG, STOPPING.

    A thread keeps the socket empty: a daemon's message waits for room, and its event loop with it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._news = threading.Condition()
        self._heard: dict[str, str] = {}
        self._pings = 0
        self._thread = threading.Thread(target=self._listen, name=f"notify {path.name}", daemon=True)
        self._thread.start()

    @property
    def status(self) -> str:
        """The last STATUS=, empty before the first."""
        with self._news:
            return self._heard.get("STATUS", "")

    @property
    def pings(self) -> int:
        """How many WATCHDOG=1 have come."""
        with self._news:
            return self._pings

    def stored(self) -> Sequence[tuple[str, int]]:
        """Descriptors that the next start is handed besides its sockets, with their names."""
        return ()

    def forget(self) -> None:
        """A new start begins: nothing has been heard of it."""
        with self._news:
            self._heard.clear()
            self._pings = 0

    def wait_for(self, key: str, seconds: float) -> bool:
        """Wait until `key=` was heard since the last `forget`; False when `seconds` are over."""
        with self._news:
            return self._news.wait_for(lambda: key in self._heard, seconds)

    def wait_for_pings(self, count: int, seconds: float) -> bool:
        """Wait until WATCHDOG=1 was heard `count` times since the last `forget`."""
        with self._news:
            return self._news.wait_for(lambda: self._pings >= count, seconds)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while message := self._socket.recv(65536):
            self._take(message)

    def _take(self, message: bytes) -> None:
        with self._news:
            for line in message.decode("utf-8", "replace").splitlines():
                key, _, value = line.partition("=")
                self._heard[key] = value
                self._pings += key == "WATCHDOG"
            self._news.notify_all()


class Daemon:
    """`sha-daemon` or `sbc-daemon` with `config`; its files in `directory` are named after it.

    `with Daemon(...) as daemon:` starts it, waits until it is ready, and stops it at the end. `sockets` are handed
    over as by socket units, under their names; they stay the caller's.
    """

    def __init__(
        self,
        program: str,
        directory: Path,
        config: msgspec.Struct,
        environment: Mapping[str, str] | None = None,
        sockets: Mapping[str, socket.socket] | None = None,
        manager: Callable[[Path], Manager] = Manager,
    ) -> None:
        self.program = program
        self.config_file = directory / f"{program}.toml"
        self.log_file = directory / f"{program}.log"
        self.manager = manager(directory / f"{program}.notify")
        self._environment = clean_environment({"NOTIFY_SOCKET": str(self.manager.path)} | dict(environment or {}))
        self._sockets = dict(sockets or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(config)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def configure(self, config: msgspec.Struct) -> None:
        """Written to its file; it counts from the next start."""
        self.config_file.write_text(settings.shown(config), "utf-8")

    @property
    def pid(self) -> int | None:
        """The process while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def status(self) -> str:
        """What `systemctl status` would show."""
        return self.manager.status

    def start(self) -> None:
        """Start and wait for READY=1. Raises DaemonFailed; then it does not run."""
        self._wait_until_ready(self.launch())

    def launch(self) -> subprocess.Popen[bytes]:
        """Start, and wait for nothing."""
        self.manager.forget()
        handed = [*((name, sock.fileno()) for name, sock in self._sockets.items()), *self.manager.stored()]
        descriptors = [descriptor for _, descriptor in handed]
        listen = {"LISTEN_FDS": str(len(handed)), "LISTEN_FDNAMES": ":".join(name for name, _ in handed)}
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                dying_with_us(self._command(descriptors)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment | (listen if handed else {}),
                pass_fds=descriptors,
                process_group=0,
            )
        return self._process

    def stop(self) -> int:
        """SIGTERM, as systemd stops it; the exit status. Raises DaemonFailed if it had to be killed."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.terminate()
        try:
            return process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise DaemonFailed(
                f"cannot stop {self.program} within {_STOP_SECONDS:.0f} s\n{self.last_lines()}"
            ) from None
        finally:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """SIGKILL, as a crash ends it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def reload(self) -> None:
        """SIGHUP, as `systemctl reload` sends it, and wait until it is over. Raises DaemonFailed."""
        if (pid := self.pid) is None:
            raise DaemonFailed(f"cannot reload {self.program}: it does not run")
        self.manager.forget()
        os.kill(pid, signal.SIGHUP)
        if not (self.manager.wait_for("RELOADING", _START_SECONDS) and self.manager.wait_for("READY", _START_SECONDS)):
            raise DaemonFailed(f"cannot reload {self.program}: it does not say so\n{self.last_lines()}")

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop it for good; no error if it does not run."""
        try:
            self.stop()
        finally:
            self.manager.close()

    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    def last_lines(self, count: int = 15) -> str:
        return "\n".join(self.log().splitlines()[-count:])

    def _command(self, descriptors: Sequence[int]) -> list[str]:
        command = [installed(self.program), "--config", str(self.config_file)]
        if not descriptors:
            return command
        return [sys.executable, "-IS", "-c", _HAND_OVER, ",".join(map(str, descriptors)), *command]

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self.manager.wait_for("READY", 0.1):
            if process.poll() is not None:
                self._process = None
                raise DaemonFailed(
                    f"cannot start {self.program}: exit status {process.returncode}\n{self.last_lines()}"
                )
            if time.monotonic() > deadline:
                self.kill()
                raise DaemonFailed(
                    f"cannot start {self.program}: not ready in {_START_SECONDS:.0f} s\n{self.last_lines()}"
                )
