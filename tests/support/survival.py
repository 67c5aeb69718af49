"""The real sidecar as its units run it, with a descriptor store around it; and producers that outlive it."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from msgspec import structs

from sbc_daemon.config import CadenceSettings, Service
from testbed.descriptor_keeper import DescriptorKeeper
from testbed.installation import sidecar_settings
from testbed.processes import Daemon

NOBODY = "http://127.0.0.1:9"
SECONDS = 15.0


class Sidecar:
    """The daemon as its units run it: sockets of its own, a store, and no hub.

    `capacity` is what the store takes, `believed` what the daemon is told of that.
    """

    def __init__(self, directory: Path, capacity: int = 1536, believed: int | None = None) -> None:
        config = sidecar_settings(directory, NOBODY, CadenceSettings(interval_seconds=0.3))
        service = Service(descriptor_store=capacity if believed is None else believed)
        config = structs.replace(config, service=service)
        self.outbox = Path(config.outbox.directory)
        self.path = config.socket.path
        self._control = config.socket.control
        self.sockets = {"progress": _listening(self.path), "control": _listening(self._control)}
        self.keeper: DescriptorKeeper
        self.daemon = Daemon("sbc-daemon", directory, config, None, self.sockets, self._manager(capacity))

    def _manager(self, capacity: int) -> Callable[[Path], DescriptorKeeper]:
        def made(path: Path) -> DescriptorKeeper:
            self.keeper = DescriptorKeeper(path, capacity)
            return self.keeper

        return made

    def end(self, how: str) -> None:
        if how == "kill":
            self.daemon.kill()
        else:
            assert self.daemon.stop() == 0

    def again(self, how: str) -> None:
        self.end(how)
        self.daemon.start()

    def jobs(self) -> dict[str, dict[str, Any]]:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(SECONDS)
            asked.connect(self._control)
            asked.sendall(b"GET /status HTTP/1.0\r\n\r\n")
            answer = asked.makefile().read().partition("\n\n")[2]
        return {job["job_id"]: job for job in json.loads(answer)["jobs"]}

    def until(self, job_id: str, **wanted: object) -> None:
        """Wait until the job is so."""
        deadline = time.monotonic() + SECONDS
        while True:
            job = self.jobs().get(job_id, {})
            if all(job.get(key) == value for key, value in wanted.items()):
                return
            assert time.monotonic() < deadline, f"{job_id} is {job}, not {wanted}\n{self.daemon.last_lines()}"
            time.sleep(0.02)

    def close(self) -> None:
        self.daemon.close()
        for sock in self.sockets.values():
            sock.close()


def _listening(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(path)
    made.listen(512)
    return made


@contextmanager
def running(directory: Path, capacity: int = 1536, believed: int | None = None) -> Iterator[Sidecar]:
    sidecar = Sidecar(directory, capacity, believed)
    try:
        sidecar.daemon.start()
        yield sidecar
    finally:
        sidecar.close()


class Producer:
    """One connection of this process, which stays the same whatever becomes of the daemon."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SECONDS)
        self.socket.connect(sidecar.path)
        self._answers = self.socket.makefile("rb")
        self.all_heard: list[dict[str, Any]] = []
        self.repeated = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self.socket.close()

    def say(self, **line: object) -> None:
        self.write(json.dumps(line) + "\n")

    def write(self, text: str) -> None:
        self.socket.sendall(text.encode())

    def heard(self) -> dict[str, Any]:
        """The next answer, but for those that were heard before: a kill may have one given twice."""
        while True:
            answer: dict[str, Any] = json.loads(self._answers.readline())
            if answer not in self.all_heard:
                self.all_heard.append(answer)
                return answer
            self.repeated += 1

    def ask(self, **line: object) -> dict[str, Any]:
        self.say(**line)
        return self.heard()

    def hung_up(self) -> bool:
        """Wait until the sidecar has closed the connection; False if it said something instead."""
        return self._answers.read(1) == b""


CHILD = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
for line in sys.stdin:
    connection.sendall(line.encode())
    if '"ack"' in line:
        connection.recv(1000)
    print("said", flush=True)
"""


class Child:
    """A process of its own that says what it is told."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", CHILD, sidecar.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            stream.close()

    def say(self, **line: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "said\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(SECONDS)
