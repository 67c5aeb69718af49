"""`sbc-daemon` as systemd and the operator meet it: a real process, its socket, its signals, its exit codes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry_common import __version__

pytestmark = pytest.mark.integration


class Daemon:
    """The process, and what it tells the service manager."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "progress.sock")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(directory / "notify"))
        self._notify.settimeout(20)
        self._log = (directory / "log").open("wb")
        self._environment = {
            "PATH": os.environ["PATH"],
            "NOTIFY_SOCKET": str(directory / "notify"),
            "SBC_SOCKET_PATH": self.path,
            "SBC_SOCKET_CONTROL": str(directory / "control.sock"),
            "SBC_OUTBOX_DIRECTORY": str(directory / "state"),
            "SBC_HUB_URL": "http://127.0.0.1:9",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sbc_daemon.main", "--config", "/dev/null"],
            env=self._environment,
            stderr=self._log,
            cwd=Path(__file__).parent.parent,
        )
        self.hears("READY=1")

    def hears(self, word: str) -> str:
        """Wait for what is told to systemd."""
        while True:
            told = self._notify.recv(4096).decode()
            if word in told:
                return told

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self._process
        self._process.send_signal(number)
        return self._process.wait(20)

    def ask(self, line: dict[str, object]) -> dict[str, object]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(self.path)
            connection.sendall(json.dumps(line).encode() + b"\n")
            answer: dict[str, object] = json.loads(connection.makefile().readline())
            return answer

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait(20)
        self._notify.close()
        self._log.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    (tmp_path / "state").mkdir(mode=0o700)
    made = Daemon(tmp_path)
    yield made
    made.close()


def test_it_is_ready_when_it_can_work_and_stops_as_asked(daemon: Daemon) -> None:
    daemon.start()
    assert daemon.ask({"job_id": "j1", "ack": 1}) == {"ack": 1, "ok": True}
    assert daemon.stop() == 0
    daemon.hears("STOPPING=1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_acknowledged_is_known_after_a_restart(daemon: Daemon, number: int) -> None:
    daemon.start()
    assert daemon.ask({"job_id": "j1", "status": "completed", "ack": 1}) == {"ack": 1, "ok": True}
    daemon.stop(number)
    daemon.start()
    answer = daemon.ask({"job_id": "j1", "status": "running", "ack": 2})
    assert answer["ok"] is False
    assert "ended as completed" in str(answer["error"])


def test_the_operator_can_ask_while_it_runs(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    daemon.ask({"job_id": "j1", "ack": 1})
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(tmp_path / "control.sock"))
        connection.sendall(b"GET /status HTTP/1.0\r\n\r\n")
        status = json.loads(connection.makefile().read().partition("\n\n")[2])
    assert [job["job_id"] for job in status["jobs"]] == ["j1"]
    assert status["version"] == __version__


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sbc_daemon.main", *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=20,
        cwd=Path(__file__).parent.parent,
        check=False,
    )


def test_the_configuration_can_be_checked_and_shown() -> None:
    assert command("--version").stdout == f"sbc-daemon {__version__}\n"
    assert command("--check", "--config", "/dev/null").returncode == 0
    assert command("--check", "--config", "/no/such/file").returncode == 2
    shown = command("--show-config", "--config", "/dev/null", SBC_HUB_URL="http://hub:1").stdout
    assert 'url = "http://hub:1"' in shown


def test_a_token_that_cannot_be_used_is_said_and_one_that_can_be_is_not_shown(tmp_path: Path) -> None:
    token = tmp_path / "hub.token"
    for look in (["--check"], list[str]()):
        missing = command(*look, "--config", "/dev/null", SBC_HUB_TOKEN_FILE=str(token))
        assert (missing.returncode, missing.stdout) == (2, "")
        assert missing.stderr.endswith(f"sbc-daemon: cannot read {token}: No such file or directory\n")
    token.write_text("sbt_secret")
    token.chmod(0o600)
    for asked in ("--check", "--show-config"):
        fine = command(asked, "--config", "/dev/null", SBC_HUB_TOKEN_FILE=str(token))
        assert fine.returncode == 0
        assert "sbt_secret" not in fine.stdout + fine.stderr


def test_a_setting_that_cannot_be_used_stops_the_start_with_its_name() -> None:
    wrong = command("--config", "/dev/null", SBC_CADENCE_INTERVAL_SECONDS="0")
    assert wrong.returncode == 2
    assert "cannot use the configuration: cadence.interval_seconds" in wrong.stderr


def test_a_socket_that_cannot_be_bound_stops_the_start(tmp_path: Path) -> None:
    wrong = command("--config", "/dev/null", SBC_SOCKET_PATH="/nonexistent/p.sock", SBC_OUTBOX_DIRECTORY=str(tmp_path))
    assert wrong.returncode == 2
    assert "cannot listen on /nonexistent/p.sock: No such file or directory" in wrong.stderr


def test_a_second_daemon_on_one_state_directory_is_refused_with_the_reason(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    other = {"SBC_SOCKET_PATH": str(tmp_path / "p2"), "SBC_SOCKET_CONTROL": str(tmp_path / "c2")}
    second = command("--config", "/dev/null", SBC_OUTBOX_DIRECTORY=str(tmp_path / "state"), **other)
    assert second.returncode == 2
    assert f"cannot use {tmp_path / 'state'}: another sbc-daemon has it" in second.stderr
    assert daemon.ask({"job_id": "j1", "ack": 1}) == {"ack": 1, "ok": True}
