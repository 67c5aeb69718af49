"""SIGSTOP to each in turn, for longer than the watchdog's patience: who lived is not failed, what was said arrives.

The thresholds are seconds where the defaults are minutes; the order of all times is the same.
"""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from sbc_daemon.config import CadenceSettings
from sha_daemon.config import DatabaseSettings, Watchdog
from testbed.installation import hub_settings, sidecar_settings
from testbed.mariadb import PrivateMariaDB
from tests.faults.conftest import Note
from tests.support.stage import RealHub, RealSidecar, eventually
from tests.support.standing_still import standing_still

pytestmark = pytest.mark.integration

WARN_SECONDS, FAIL_SECONDS = 1.5, 4.0
STANDSTILL_SECONDS = 1.5 * FAIL_SECONDS
CADENCE = CadenceSettings(interval_seconds=0.5)
VERDICT = "job failed by the watchdog job="


class Backup(threading.Thread):
    """A producer attached to the sidecar: it says progress in one go, never blocks, and ends when it is told."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self.blocked_seconds = 0.0
        self._over = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._socket.settimeout(60)
        self._answers = self._socket.makefile()
        self.said = 0
        assert self._ask(job_id="j1", status="running", total_bytes=1000, attach=True)["ok"]

    def run(self) -> None:
        while not self._over.wait(0.1):
            self.said += 1
            begun = time.monotonic()
            self._socket.sendall(b'{"bytes_transferred":%d}\n' % self.said)
            self.blocked_seconds = max(self.blocked_seconds, time.monotonic() - begun)

    def end(self) -> None:
        self._over.set()
        self.join()
        assert self._ask(status="completed", bytes_transferred=1000)["ok"]
        self._socket.close()

    def _ask(self, **line: object) -> dict[str, object]:
        self._socket.sendall(json.dumps(line | {"ack": 1}).encode() + b"\n")
        answer: dict[str, object] = json.loads(self._answers.readline())
        return answer


class Client:
    def __init__(self, hub: RealHub, sidecar: RealSidecar, server: PrivateMariaDB) -> None:
        self.hub, self.sidecar, self.server = hub, sidecar, server
        self.backup = Backup(sidecar.socket)
        self.backup.start()
        hub.wait_for("j1", "running")

    def finish(self) -> None:
        """The job is what its producer says it is, to the end."""
        self.backup.end()
        assert self.hub.wait_for("j1", "completed").bytes_transferred == 1000


@pytest.fixture
def client(migrated_database: DatabaseSettings, mariadb_server: PrivateMariaDB, tmp_path: Path) -> Iterator[Client]:
    watchdog = Watchdog(interval_seconds=0.5, warn_seconds=WARN_SECONDS, fail_seconds=FAIL_SECONDS)
    database = structs.replace(migrated_database, timeout_seconds=2)
    with RealHub(tmp_path, hub_settings(database, watchdog), mariadb_server) as hub:
        hub.create_job("j1")
        with RealSidecar(tmp_path, sidecar_settings(tmp_path, hub.url, CADENCE)) as sidecar:
            yield Client(hub, sidecar, mariadb_server)


@pytest.mark.parametrize("who", ["hub", "server"])
def test_while_the_hub_or_its_database_stands_still_nobody_is_failed(client: Client, who: str, note: Note) -> None:
    stopped = client.hub if who == "hub" else client.server
    with standing_still(stopped):
        time.sleep(STANDSTILL_SECONDS)
    before = client.backup.said
    eventually(lambda: (job := client.hub.reader.job("j1")) and (job.bytes_transferred or 0) > before)
    time.sleep(3 * CADENCE.interval_seconds)
    client.finish()
    assert VERDICT not in client.hub.log()
    note(stood_still_seconds=STANDSTILL_SECONDS, patience_seconds=FAIL_SECONDS)


def test_a_sidecar_that_stands_still_for_less_than_the_patience_costs_nothing(client: Client, note: Note) -> None:
    with standing_still(client.sidecar):
        time.sleep(FAIL_SECONDS - 1.5)
    client.finish()
    assert VERDICT not in client.hub.log()
    assert client.backup.blocked_seconds < 2.0
    note(stood_still_seconds=FAIL_SECONDS - 1.5, producer_blocked_seconds=client.backup.blocked_seconds)


def test_a_sidecar_that_stands_still_for_longer_is_taken_for_dead_and_the_verdict_is_taken_back(
    client: Client, note: Note
) -> None:
    with standing_still(client.sidecar):
        assert client.hub.wait_for("j1", "failed").error_message
    client.hub.wait_for("j1", "running")
    client.finish()
    assert client.hub.log().count(VERDICT) == 1
    assert "job revived job=j1" in client.hub.log()
    note(verdicts=1, revived=1)


def test_all_three_stand_still_in_turn_and_together(client: Client, note: Note) -> None:
    """Each comes back alone; the hub is the last to hear that its world went on."""
    pids = [process.pid for process in (client.sidecar, client.server, client.hub)]
    for pid in pids:
        os.kill(pid or 0, signal.SIGSTOP)
    time.sleep(STANDSTILL_SECONDS)
    for pid in pids:
        os.kill(pid or 0, signal.SIGCONT)
        time.sleep(0.2)
    client.finish()
    assert VERDICT not in client.hub.log()
    note(stood_still_seconds=STANDSTILL_SECONDS)
