"""`sbc-report run` and signals: passed on once, job control as without it, a time limit."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.producers_socket import ProducersSocket, producers_socket
from tests.support.stage import eventually
from tests.support.wrapped import SH, Terminal, started, tool_of, wrapped


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[ProducersSocket]:
    with producers_socket(tmp_path / "socket") as listening:
        yield listening


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH"])
def test_a_signal_sent_to_the_wrapper_reaches_the_command_once(sidecar: ProducersSocket, name: str) -> None:
    script = f"trap 'echo got {name}' {name}; echo ready; read line; read line; exit 5"
    process = started(sidecar.path, script, stdin=subprocess.PIPE)
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert process.stdout is not None
    assert process.stdout.readline() == f"got {name}\n".encode()
    rest, _ = process.communicate(b"\n\n", timeout=20)
    assert (rest, process.returncode) == (b"", 5)


def test_no_signal_is_sent_that_was_not_received(sidecar: ProducersSocket, tmp_path: Path) -> None:
    names = "HUP INT QUIT USR1 USR2 ALRM TERM CONT WINCH CHLD"
    script = f'for n in {names}; do trap "echo $n >> {tmp_path}/got" $n; done; for i in 1 2 3 4; do read -t 0.3 x; done'
    process = subprocess.Popen(wrapped(sidecar.path, "bash", "-c", f"{script}; exit 0"), stdin=subprocess.PIPE)
    assert process.wait(20) == 0
    assert process.stdin is not None
    process.stdin.close()
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize(("key", "name"), [(b"\x03", "INT"), (b"\x1c", "QUIT")])
def test_a_key_on_a_terminal_reaches_the_command_once(sidecar: ProducersSocket, key: bytes, name: str) -> None:
    script = f"trap 'echo got' {name}; echo ready; while ! read line; do :; done; exit 3"
    terminal = Terminal(wrapped(sidecar.path, *SH, script))
    terminal.shows(b"ready")
    terminal.types(key)
    terminal.shows(b"got")
    terminal.types(b"\n")
    assert terminal.end() == 3
    assert b"got" not in terminal.seen


def test_ctrl_c_kills_a_command_as_without_the_wrapper(sidecar: ProducersSocket) -> None:
    terminal = Terminal(wrapped(sidecar.path, *SH, "echo ready; exec sleep 60"))
    terminal.shows(b"ready")
    terminal.types(b"\x03")
    assert terminal.end() == -signal.SIGINT
    assert sidecar.lines[-1]["error"]["message"] == "sh was killed by signal 2 (SIGINT)"


def test_a_command_reads_and_writes_its_terminal_itself(sidecar: ProducersSocket) -> None:
    terminal = Terminal(wrapped(sidecar.path, *SH, "tty; stty size; read line; echo you said $line"))
    terminal.shows(b"/dev/pts/")
    terminal.types(b"hello\n")
    assert terminal.end() == 0
    assert b"you said hello" in terminal.seen


def test_under_a_shell_with_job_control_it_stops_and_comes_back(sidecar: ProducersSocket, tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; echo ready; read line; echo got $line; exit 7"
    command = shlex.join(wrapped(sidecar.path, *SH, script))
    terminal = Terminal(["/bin/bash", "--norc", "--noprofile", "--noediting", "-i"])
    terminal.types(f"PS1='> '; {command}\n".encode())
    terminal.shows(b"ready\r\n")
    terminal.types(b"\x1a")
    terminal.shows(b"Stopped")
    # The line about it names the command as well, and until the prompt is there the terminal is not the shell's again.
    terminal.shows(b"\n> ")
    # A read that had begun takes what is typed as long as its process has not come to stop.
    tool = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    eventually(lambda: tool.read_text().rpartition(") ")[2].startswith("T"))
    terminal.types(b"fg\n")
    terminal.shows(b"report.command")
    terminal.types(b"word\n")
    terminal.shows(b"got word")
    terminal.types(b"echo ended with $?; exit\n")
    terminal.shows(b"ended with 7")
    assert terminal.end() == 0
    assert sidecar.lines[-1]["error"]["message"] == "sh exited with code 7"


def test_it_stops_and_continues_with_its_process_group(sidecar: ProducersSocket) -> None:
    process = started(sidecar.path, "echo ready; read line; exit 4", stdin=subprocess.PIPE, start_new_session=True)
    os.killpg(process.pid, signal.SIGSTOP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.killpg(process.pid, signal.SIGCONT)
    process.communicate(b"\n", timeout=20)
    assert process.returncode == 4


def test_a_wrapper_that_is_stopped_alone_does_not_stop_its_command(sidecar: ProducersSocket, tmp_path: Path) -> None:
    script = f"echo ready; read line; echo $line > {tmp_path}/proof; echo written; exit 4"
    process = started(sidecar.path, script, stdin=subprocess.PIPE)
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"on\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"written\n"
    assert (tmp_path / "proof").read_text() == "on\n"
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=20)
    assert process.returncode == 4


def test_a_command_that_is_stopped_is_not_taken_for_ended(sidecar: ProducersSocket) -> None:
    process = started(sidecar.path, "echo ready; read line; exit 4", stdin=subprocess.PIPE)
    tool = tool_of(process)
    os.kill(tool, signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.4)
    os.kill(tool, signal.SIGCONT)
    process.communicate(b"\n", timeout=20)
    assert process.returncode == 4


def test_a_command_that_takes_too_long_is_terminated_and_reported(sidecar: ProducersSocket) -> None:
    process = subprocess.run(wrapped(sidecar.path, "sleep", "60", options=("--timeout", "0.2s")), check=False)
    assert process.returncode == -signal.SIGTERM
    message = "sleep timed out after 0.2s (--timeout): it was killed by signal 15 (SIGTERM)"
    assert (sidecar.lines[-1]["status"], sidecar.lines[-1]["error"]) == ("failed", {"message": message})


@pytest.mark.parametrize(("code", "returned"), [(0, 124), (9, 9)])
def test_one_that_is_out_of_time_has_failed_whatever_it_returns(
    sidecar: ProducersSocket, code: int, returned: int
) -> None:
    script = f"trap 'exit {code}' TERM; while :; do sleep 0.05; done"
    command = wrapped(sidecar.path, *SH, script, options=("--timeout", "0.3"))
    assert subprocess.run(command, check=False).returncode == returned
    message = f"sh timed out after 0.3s (--timeout): it exited with code {code}"
    assert (sidecar.lines[-1]["status"], sidecar.lines[-1]["error"]) == ("failed", {"message": message})


def test_one_that_does_not_listen_is_killed_ten_seconds_later(
    sidecar: ProducersSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the ten seconds made half of one."""
    code = (
        "import sys; from sbc_daemon.report import wrapper, command; assert wrapper.KILL_AFTER_SECONDS == 10; "
        "wrapper.KILL_AFTER_SECONDS = 0.5; sys.exit(command.main())"
    )
    arguments = wrapped(sidecar.path, *SH, "trap '' TERM; sleep 60", options=("--timeout", "0.2"))[3:]
    before = time.monotonic()
    process = subprocess.run([*wrapped(sidecar.path)[:1], "-c", code, *arguments], check=False)
    assert process.returncode == -signal.SIGKILL
    assert 0.7 <= time.monotonic() - before < 20
    assert sidecar.lines[-1]["error"]["message"].endswith("it was killed by signal 9 (SIGKILL)")


def test_one_that_ends_in_time_is_not_disturbed(sidecar: ProducersSocket) -> None:
    assert subprocess.run(wrapped(sidecar.path, "true", options=("--timeout", "1d")), check=False).returncode == 0
    assert sidecar.lines[-1]["status"] == "completed"
