"""Restarts and kills of the real sidecar under systemd's descriptor store (`testbed.descriptor_keeper`): what producers
notice of them, which is nothing, and what becomes of their jobs."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from sbc_daemon.config import CadenceSettings
from testbed.descriptor_keeper import DescriptorKeeper
from testbed.installation import sidecar_settings
from testbed.processes import Daemon

pytestmark = pytest.mark.integration
NOBODY = "http://127.0.0.1:9"
ENDINGS = [pytest.param("restart", id="restart"), pytest.param("kill", id="kill -9")]
SECONDS = 15.0


class Sidecar:
    """The daemon as its units run it: sockets of its own, a store, and no hub."""

    def __init__(self, directory: Path, capacity: int = 1536) -> None:
        config = sidecar_settings(directory, NOBODY, CadenceSettings(interval_seconds=0.3))
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
def running(directory: Path, capacity: int = 1536) -> Iterator[Sidecar]:
    sidecar = Sidecar(directory, capacity)
    try:
        sidecar.daemon.start()
        yield sidecar
    finally:
        sidecar.close()


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with running(tmp_path) as made:
        yield made


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


@pytest.mark.parametrize("how", ENDINGS)
def test_a_connection_outlives_the_daemon_with_the_job_that_it_named(sidecar: Sidecar, how: str) -> None:
    with Producer(sidecar) as producer:
        assert producer.ask(job_id="j1", status="running", ack=1) == {"ack": 1, "ok": True}
        sidecar.again(how)
        assert producer.ask(bytes_transferred=7, ack=2) == {"ack": 2, "ok": True}
        sidecar.until("j1", bytes_transferred=7)
        assert how == "kill" or producer.repeated == 0


@pytest.mark.parametrize("how", ENDINGS)
def test_a_connection_that_has_said_nothing_yet_outlives_the_daemon(sidecar: Sidecar, how: str) -> None:
    with Producer(sidecar) as producer:
        assert producer.ask(hello=1)["hello"]["protocol"] == 1
        sidecar.again(how)
        assert producer.ask(job_id="j1", ack=1) == {"ack": 1, "ok": True}


@pytest.mark.parametrize("pause", [0.0, 0.5], ids=["just read", "read long ago"])
@pytest.mark.parametrize("how", ENDINGS)
def test_a_producer_in_the_middle_of_a_line_does_not_notice(sidecar: Sidecar, how: str, pause: float) -> None:
    with Producer(sidecar) as producer:
        producer.ask(job_id="j1", ack=1)
        producer.write('{"current_phase":"trans')
        time.sleep(pause)
        for rest in ("ferr", 'ing","ack":2}\n'):
            sidecar.again(how)
            producer.write(rest)
        assert producer.heard() == {"ack": 2, "ok": True}
        sidecar.until("j1", current_phase="transferring")


@pytest.mark.parametrize("how", ENDINGS)
def test_what_is_written_while_nobody_listens_is_read_afterwards(sidecar: Sidecar, how: str) -> None:
    with Producer(sidecar) as producer:
        producer.ask(job_id="j1", ack=1)
        sidecar.end(how)
        producer.say(bytes_transferred=5)
        producer.say(status="completed", ack=2)
        sidecar.daemon.start()
        assert producer.heard() == {"ack": 2, "ok": True}
        sidecar.until("j1", status="completed", bytes_transferred=5)


@pytest.mark.parametrize("how", ENDINGS)
def test_a_producer_that_writes_its_end_and_hangs_up_meanwhile_is_heard(sidecar: Sidecar, how: str) -> None:
    with Producer(sidecar) as producer:
        producer.ask(job_id="j1", ack=1)
        sidecar.end(how)
        producer.say(status="completed")
    sidecar.daemon.start()
    sidecar.until("j1", status="completed")
    assert sidecar.keeper.wait_until_empty(SECONDS)


def test_a_share_is_still_known_after_a_kill(sidecar: Sidecar) -> None:
    with Producer(sidecar) as first:
        first.ask(job_id="j1", attach={"disks": [0], "of": 2}, ack=1)
        time.sleep(0.3)
        sidecar.again("kill")
        assert first.ask(status="completed", ack=2) == {"ack": 2, "ok": True}
        sidecar.until("j1", status="running")


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


@pytest.mark.parametrize("how", ENDINGS)
def test_who_was_attached_stays_so_and_its_death_is_noticed(sidecar: Sidecar, how: str) -> None:
    with Child(sidecar) as child:
        child.say(job_id="j1", attach=True, status="running", ack=1)
        sidecar.again(how)
        sidecar.until("j1", status="running", attached=True)
        child.kill()
        sidecar.until("j1", status="failed")
    assert f"backup process (pid {child.pid}) ended without reporting an outcome" in sidecar.daemon.log()
    assert sidecar.keeper.wait_until_empty(SECONDS)


@pytest.mark.parametrize("how", ENDINGS)
def test_a_death_while_the_daemon_is_away_is_noticed_afterwards(sidecar: Sidecar, how: str) -> None:
    with Child(sidecar) as child:
        child.say(job_id="j1", attach=True, status="running", ack=1)
        child.say(job_id="j2", attach=True, status="running", ack=2)
        time.sleep(0.3)
        sidecar.end(how)
        child.say(status="completed")
        child.kill()
    sidecar.daemon.start()
    sidecar.until("j1", status="failed")
    sidecar.until("j2", status="completed")
    assert sidecar.keeper.wait_until_empty(SECONDS)


@pytest.mark.parametrize("how", ENDINGS)
def test_a_script_that_was_attached_by_its_pidfd_stays_so(sidecar: Sidecar, how: str) -> None:
    script = "sbc-report start --job script-1 && echo started && read _; kill -9 $$"
    programs = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "SBC_SOCKET": sidecar.path}
    with subprocess.Popen(
        ["bash", "-c", script], env=programs, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stdout
        assert shell.stdin
        assert shell.stdout.readline() == "started\n"
        sidecar.again(how)
        sidecar.until("script-1", status="running", attached=True)
        shell.stdin.write("\n")
        shell.stdin.flush()
        shell.wait(SECONDS)
        sidecar.until("script-1", status="failed")
