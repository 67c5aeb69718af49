"""`sbc-report run` around real processes: exit codes, signals, streams, and a sidecar that is there or not."""

import os
import pty
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.producers_socket import Line, ProducersSocket, producers_socket

SH = ["sh", "-c"]
GLIBCS_OWN = 1 << 31 | 1 << 32
"""Signals 32 and 33, which glibc's posix_spawn leaves ignored; it takes them back when it needs them."""


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[ProducersSocket]:
    with producers_socket(tmp_path / "socket") as listening:
        yield listening


def wrapped(socket_path: Path, *command: str, options: tuple[str, ...] = ()) -> list[str]:
    start = [sys.executable, "-m", "sbc_daemon.report.command", "run", "--job", "j1", "--socket", str(socket_path)]
    return [*start, *options, "--", *command]


def run(sidecar: ProducersSocket, *command: str, options: tuple[str, ...] = (), **how: Any) -> int:
    return subprocess.run(wrapped(sidecar.path, *command, options=options), check=False, **how).returncode


def started(sidecar: ProducersSocket, script: str, *options: str, **how: Any) -> "subprocess.Popen[bytes]":
    """A wrapped shell script that has said `ready` on its stdout."""
    command = wrapped(sidecar.path, *SH, script, options=options)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, **how)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def has(**wanted: object) -> Callable[[list[Line]], Line | None]:
    return lambda said: next((line for line in said if wanted.items() <= line.items()), None)


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_passes_through_and_decides(sidecar: ProducersSocket, code: int) -> None:
    assert run(sidecar, *SH, f"exit {code}") == code
    last = sidecar.lines[-1]
    if code:
        assert (last["status"], last["error"]) == ("failed", {"message": f"sh exited with code {code}"})
    else:
        assert (last["status"], "error" in last) == ("completed", False)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGUSR1, signal.SIGINT])
def test_death_by_a_signal_is_reported_and_repeated(sidecar: ProducersSocket, number: signal.Signals) -> None:
    assert run(sidecar, *SH, f"kill -{int(number)} $$") == -number
    assert sidecar.lines[-1]["error"]["message"] == f"sh was killed by signal {int(number)} ({number.name})"


def test_a_command_that_does_not_exist_returns_127(sidecar: ProducersSocket) -> None:
    assert run(sidecar, "no-such-command", stderr=subprocess.DEVNULL) == 127
    assert sidecar.lines[-1]["error"]["message"] == "cannot run no-such-command: No such file or directory"


def test_a_file_that_cannot_be_executed_returns_126(sidecar: ProducersSocket, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    assert run(sidecar, str(tmp_path / "plain"), stderr=subprocess.DEVNULL) == 126
    assert sidecar.lines[-1]["status"] == "failed"


def test_a_script_without_an_interpreter_line_runs_as_under_a_shell(sidecar: ProducersSocket, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("exit 9\n")
    script.chmod(0o755)
    assert run(sidecar, str(script)) == 9


def test_the_process_is_attached_and_its_phase_and_total_are_said(sidecar: ProducersSocket) -> None:
    run(sidecar, "true", options=("--phase", "snapshot", "--total-bytes", "10"))
    first = sidecar.lines[0]
    assert (first["attach"], first["status"], first["current_phase"], first["total_bytes"]) == (
        True,
        "running",
        "snapshot",
        10,
    )
    assert sidecar.lines[-1]["bytes_transferred"] == 10


def test_one_disk_of_several_is_ended_alone(sidecar: ProducersSocket) -> None:
    run(sidecar, "true", options=("--disk", "1", "--of", "2", "--total-bytes", "10"))
    assert sidecar.lines[0]["attach"] == {"disks": [1], "of": 2}
    assert sidecar.lines[-1]["disks"] == [{"disk_index": 1, "bytes_transferred": 10, "status": "completed"}]
    run(sidecar, "false", options=("--disk", "0", "--of", "2"))
    assert sidecar.lines[-1]["disks"] == [{"disk_index": 0, "status": "failed"}]
    assert sidecar.lines[-1]["error"] == {"message": "false exited with code 1"}


def test_streams_and_environment_are_the_commands_own(sidecar: ProducersSocket) -> None:
    script = 'cat; printf "\\000\\377" >&2; printf "$SBC_JOB_ID $SBC_SOCKET" >&2'
    data = os.urandom(3 << 20)
    command = wrapped(sidecar.path, *SH, script)
    ended = subprocess.run(command, input=data, capture_output=True, check=True)
    assert ended.stdout == data
    assert ended.stderr == b"\0\xff" + f"j1 {sidecar.path}".encode()


def test_descriptors_that_were_handed_down_reach_the_command(sidecar: ProducersSocket, tmp_path: Path) -> None:
    with (tmp_path / "extra").open("wb") as extra:
        code = f"import os; os.write({extra.fileno()}, b'through')"
        run(sidecar, sys.executable, "-c", code, pass_fds=[extra.fileno()])
    assert (tmp_path / "extra").read_bytes() == b"through"


def test_signal_dispositions_reach_the_command_as_they_were(sidecar: ProducersSocket) -> None:
    look = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]
    ignoring = "trap '' HUP INT; exec "
    plain = subprocess.run([*SH, ignoring + shlex.join(look)], capture_output=True, check=True).stdout
    command = shlex.join(wrapped(sidecar.path, *look))
    inside = subprocess.run([*SH, ignoring + command], capture_output=True, check=True).stdout
    assert [mask & ~GLIBCS_OWN for mask in masks(inside)] == [mask & ~GLIBCS_OWN for mask in masks(plain)]


def masks(status: bytes) -> list[int]:
    return [int(line.split()[1], 16) for line in status.splitlines()]


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"])
def test_a_signal_sent_to_the_wrapper_reaches_the_command_once(sidecar: ProducersSocket, name: str) -> None:
    script = f"trap 'echo got {name}' {name}; echo ready; read line; read line; exit 5"
    process = started(sidecar, script, stdin=subprocess.PIPE)
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert process.stdout is not None
    assert process.stdout.readline() == f"got {name}\n".encode()
    rest, _ = process.communicate(b"\n\n", timeout=20)
    assert (rest, process.returncode) == (b"", 5)


def test_ctrl_c_on_a_terminal_reaches_the_command_once(sidecar: ProducersSocket) -> None:
    script = "trap 'echo got' INT; echo ready; i=0; while [ $i -lt 8 ]; do sleep 0.05; i=$((i+1)); done; exit 3"
    pid, terminal = pty.fork()
    if pid == 0:
        command = wrapped(sidecar.path, *SH, script)
        os.execv(command[0], command)  # noqa: S606  # this is the child of pty.fork; subprocess has no controlling terminal
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    os.set_blocking(terminal, False)
    assert os.read(terminal, 1000).count(b"got") == 1
    os.close(terminal)


def test_it_stops_and_continues_with_its_process_group(sidecar: ProducersSocket) -> None:
    process = started(sidecar, "echo ready; read line; exit 4", stdin=subprocess.PIPE, start_new_session=True)
    os.killpg(process.pid, signal.SIGSTOP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.killpg(process.pid, signal.SIGCONT)
    process.communicate(b"\n", timeout=20)
    assert process.returncode == 4


def test_a_killed_wrapper_leaves_the_command_running(sidecar: ProducersSocket, tmp_path: Path) -> None:
    script = f"echo ready; read line; echo survived > {tmp_path}/proof"
    process = started(sidecar, script, stdin=subprocess.PIPE)
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.stdout is not None
    process.stdout.read()  # ends when the command has
    process.stdout.close()
    assert (tmp_path / "proof").read_text() == "survived\n"


def test_a_command_that_takes_too_long_is_terminated_and_reported(sidecar: ProducersSocket) -> None:
    assert run(sidecar, "sleep", "60", options=("--timeout", "0.2")) == -signal.SIGTERM
    assert sidecar.lines[-1]["error"]["message"] == "sleep timed out after 0s"


def test_one_that_is_out_of_time_and_still_returns_0_is_a_failure(sidecar: ProducersSocket) -> None:
    script = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
    assert run(sidecar, *SH, script, options=("--timeout", "0.3")) == 124
    assert sidecar.lines[-1]["status"] == "failed"


def test_without_a_job_the_command_runs_all_the_same() -> None:
    command = [sys.executable, "-m", "sbc_daemon.report.command", "run", "--", "sh", "-c", "exit 6"]
    environment = {name: value for name, value in os.environ.items() if name != "SBC_JOB_ID"}
    ended = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert ended.returncode == 6
    assert b"cannot report without a job" in ended.stderr


@pytest.mark.parametrize("options", [["--disk", "0"], ["--of", "2"], ["--total-bytes", "-1"], ["--timeout", "x"]])
def test_a_wrong_command_line_is_told_before_anything_runs(options: list[str], tmp_path: Path) -> None:
    command = wrapped(tmp_path / "none", "touch", str(tmp_path / "ran"), options=tuple(options))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
    assert not (tmp_path / "ran").exists()


def test_without_a_sidecar_nothing_is_different(tmp_path: Path) -> None:
    script = "echo out; echo err >&2; exit 3"
    plain = subprocess.run([*SH, script], capture_output=True, check=False)
    inside = subprocess.run(wrapped(tmp_path / "none", *SH, script), capture_output=True, check=False)
    assert (inside.stdout, inside.stderr, inside.returncode) == (plain.stdout, plain.stderr, plain.returncode)


def test_a_sidecar_that_is_stopped_delays_the_end_by_its_bound_only(tmp_path: Path) -> None:
    """Its listening socket takes the connection, and nobody ever reads: as with SIGSTOP."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "stopped"))
        listener.listen(0)
        before = time.monotonic()
        ended = subprocess.run(wrapped(tmp_path / "stopped", *SH, "echo out; exit 2"), capture_output=True, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == (b"out\n", b"", 2)
    assert time.monotonic() - before < 8


def test_a_reader_of_stdout_that_is_gone_does_not_disturb_the_report(sidecar: ProducersSocket) -> None:
    process = started(sidecar, "echo ready; read line; exec 1>&-; exit 0", stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.close()
    process.stdin.close()
    assert process.wait(20) == 0
    sidecar.wait_for(has(status="completed"))
