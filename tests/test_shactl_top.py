"""`shactl top` on a terminal, before a real hub: it follows, and gives the terminal back as it was."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sha_daemon.config import DatabaseSettings
from testbed.installation import hub_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import clean_environment, installed
from tests.support.stage import RealHub

pytestmark = pytest.mark.integration


class Terminal:
    """A pseudo terminal with `shactl top` on it."""

    def __init__(self, config: Path) -> None:
        self._ours, self._theirs = pty.openpty()
        self.before = termios.tcgetattr(self._theirs)
        self.process = subprocess.Popen(
            [installed("shactl"), "--config", str(config), "top", "--interval", "0.2"],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env=clean_environment({"TERM": "xterm", "COLUMNS": "120", "LINES": "30"}),
            start_new_session=True,
        )
        self.seen = ""

    def wait_for(self, text: str) -> None:
        """Until it has been painted since this was last asked."""
        deadline = time.monotonic() + 20
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.seen!r}"
            if select.select([self._ours], [], [], 0.1)[0]:
                self.seen += os.read(self._ours, 65536).decode()
        self.seen = self.seen.partition(text)[2]

    def press(self, key: str) -> None:
        os.write(self._ours, key.encode())

    def after(self) -> list[object]:
        return termios.tcgetattr(self._theirs)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
def hub(tmp_path: Path, migrated_database: DatabaseSettings, mariadb_server: PrivateMariaDB) -> Iterator[RealHub]:
    with RealHub(tmp_path, hub_settings(migrated_database), mariadb_server) as hub:
        yield hub


@pytest.fixture
def terminal(hub: RealHub) -> Iterator[Terminal]:
    with contextlib.closing(Terminal(hub.config_file)) as terminal:
        yield terminal


def set_status(server: PrivateMariaDB, database: DatabaseSettings, status: str) -> None:
    with server.connect(database.name) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE backup_jobs SET status = %s", (status,))


def test_it_follows_a_job_from_its_start_to_its_end(
    hub: RealHub, terminal: Terminal, mariadb_server: PrivateMariaDB, migrated_database: DatabaseSettings
) -> None:
    terminal.wait_for("no running jobs")
    hub.create_job("backup-vm1-1")
    set_status(mariadb_server, migrated_database, "running")
    terminal.wait_for("backup-vm1-1")
    set_status(mariadb_server, migrated_database, "cancelled")
    terminal.wait_for("ENDED")
    terminal.wait_for("cancelled")
    terminal.press("q")
    assert terminal.process.wait(10) == 0
    assert terminal.after() == terminal.before


def test_ctrl_c_leaves_as_well(terminal: Terminal) -> None:
    terminal.wait_for("no running jobs")
    terminal.process.send_signal(signal.SIGINT)
    terminal.wait_for("\x1b[?1049l")
    assert terminal.process.wait(10) == 0
    assert terminal.after() == terminal.before


def test_a_hub_that_goes_is_told_and_comes_back(hub: RealHub, terminal: Terminal) -> None:
    terminal.wait_for("no running jobs")
    hub.stop()
    terminal.wait_for("! cannot reach the hub")
    hub.start()
    terminal.wait_for("no running jobs")


def test_in_a_pipe_it_is_one_look(hub: RealHub) -> None:
    command = [installed("shactl"), "--config", str(hub.config_file), "top"]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), check=True, timeout=60)
    assert "0 jobs running" in done.stdout
    assert "\x1b" not in done.stdout
