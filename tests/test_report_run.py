"""`sbc-report run` around real processes: exit codes, streams, command lines."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sbc_daemon.report.command import main
from tests.support.producers_socket import Line, ProducersSocket, producers_socket
from tests.support.wrapped import REPORT, SH, started, wrapped

GLIBCS_OWN = 1 << 31 | 1 << 32
"""Signals 32 and 33, which glibc's posix_spawn leaves ignored; it takes them back when it needs them."""


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[ProducersSocket]:
    with producers_socket(tmp_path / "socket") as listening:
        yield listening


def run(sidecar: ProducersSocket, *command: str, options: tuple[str, ...] = (), **how: Any) -> int:
    return subprocess.run(wrapped(sidecar.path, *command, options=options), check=False, **how).returncode


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


def test_ten_megabytes_of_anything_pass_each_way_byte_for_byte(sidecar: ProducersSocket, tmp_path: Path) -> None:
    data = os.urandom(10_000_000)
    code = (
        "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data); sys.stderr.buffer.write(data[::-1])"
    )
    with (tmp_path / "errors").open("wb") as errors:
        command = wrapped(sidecar.path, sys.executable, "-c", code)
        ended = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=errors, check=True)
    assert ended.stdout == data
    assert (tmp_path / "errors").read_bytes() == data[::-1]


def test_the_command_learns_job_and_socket_by_an_absolute_path(sidecar: ProducersSocket, tmp_path: Path) -> None:
    command = wrapped(Path("socket"), *SH, 'cd /; printf "$SBC_JOB_ID $SBC_SOCKET"')
    ended = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path, env=from_here())
    assert ended.stdout == f"j1 {sidecar.path}".encode()


def from_here() -> dict[str, str]:
    """The environment for a command that runs elsewhere and is to find our code."""
    return {**os.environ, "PYTHONPATH": str(Path.cwd())}


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "<&- 2>&-"])
@pytest.mark.parametrize("name", ["look", "qemu-img"])
def test_streams_that_are_closed_stay_closed(sidecar: ProducersSocket, tmp_path: Path, closed: str, name: str) -> None:
    """Also for a tool of whose stdout the progress would be taken."""
    look = tmp_path / name
    (tmp_path / "open").touch()
    look.write_text(
        f"#!/bin/sh\nfor n in 0 1 2; do [ -e /proc/self/fd/$n ] && echo $n >> {tmp_path}/open; done; exit 3"
    )
    look.chmod(0o755)
    command = shlex.join(wrapped(sidecar.path, str(look), "convert", "a", "b"))
    assert subprocess.run([*SH, f"exec 9>&1 {closed}; {command}"], check=False).returncode == 3
    plain = subprocess.run([*SH, f"exec 9>&1 {closed}; {look}"], check=False)
    seen = (tmp_path / "open").read_text().split()
    assert (plain.returncode, seen[: len(seen) // 2]) == (3, seen[len(seen) // 2 :])
    assert sidecar.lines[-1]["error"] == {"message": f"{name} exited with code 3"}


@pytest.fixture
def talkative(tmp_path: Path) -> str:
    """A `qemu-img` that says very much besides its progress."""
    made = tmp_path / "qemu-img"
    code = "import os; os.write(1, b'    (1.00/100%)\\r'); os.write(1, bytes(range(256)) * 4000)"
    made.write_text(f"#!{sys.executable}\n{code}\n")
    made.chmod(0o755)
    return str(made)


def test_what_is_passed_on_is_whole_however_slowly_it_is_read(sidecar: ProducersSocket, talkative: str) -> None:
    command = wrapped(sidecar.path, talkative, "convert", "a", "b")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        read = process.stdout.read(1)
        time.sleep(0.5)
        assert read + process.stdout.read() == bytes(range(256)) * 4000
    assert process.returncode == 0


def test_a_reader_that_has_stopped_reading_keeps_no_signal_from_the_end(
    sidecar: ProducersSocket, talkative: str
) -> None:
    process = subprocess.Popen(wrapped(sidecar.path, talkative, "convert", "a", "b"), stdout=subprocess.PIPE)
    sidecar.wait_for(has(status="running"))
    assert process.stdout is not None
    process.stdout.read(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    process.stdout.close()


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


def test_a_killed_wrapper_leaves_the_command_running(sidecar: ProducersSocket, tmp_path: Path) -> None:
    script = f"echo ready; read line; echo survived > {tmp_path}/proof"
    process = started(sidecar.path, script, stdin=subprocess.PIPE)
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.stdout is not None
    process.stdout.read()  # ends when the command has
    process.stdout.close()
    assert (tmp_path / "proof").read_text() == "survived\n"


def test_without_a_job_the_command_runs_all_the_same() -> None:
    command = [*REPORT, "run", "--", "sh", "-c", "exit 6"]
    environment = {name: value for name, value in os.environ.items() if name != "SBC_JOB_ID"}
    ended = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert ended.returncode == 6
    assert b"cannot report without a job" in ended.stderr


def test_a_core_dump_is_said_and_not_repeated(sidecar: ProducersSocket, tmp_path: Path) -> None:
    script = "ulimit -c unlimited; kill -SEGV $$"
    dumped = os.WCOREDUMP(status_of([*SH, script], tmp_path))
    status = status_of(wrapped(sidecar.path, *SH, script), tmp_path)
    assert (os.WTERMSIG(status), os.WCOREDUMP(status)) == (signal.SIGSEGV, False)
    core = ", core dumped" if dumped else ""
    assert sidecar.lines[-1]["error"]["message"] == f"sh was killed by signal 11 (SIGSEGV{core})"


def status_of(command: list[str], directory: Path) -> int:
    """As wait(2) tells it, which subprocess does not keep."""
    script = f"cd {directory} && exec {shlex.join(command)}"
    return os.waitpid(os.posix_spawnp("sh", [*SH, script], from_here()), 0)[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("run --job j1 nbdcopy -C 2 a b", "put `--` in front of it: run ... -- nbdcopy -C 2 a b"),
        ("run nbdcopy --timeout 5 a", "put `--` in front of it: run ... -- nbdcopy a"),
        ("run --job j1", "put `-- COMMAND` behind the options"),
        ("run --job j1 --", "put `-- COMMAND` behind the options"),
        ("run --tomorrow -- true", "cannot use --tomorrow: there is no such option"),
        ("run true -- true", "cannot use true: there is no such option"),
        ("progress 5 6", "cannot use 6: there is no such option or argument (see progress --help)"),
    ],
)
def test_a_command_line_that_is_not_understood_is_told_how_it_would_be(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_what_follows_the_dashes_is_the_commands_own(sidecar: ProducersSocket) -> None:
    command = wrapped(sidecar.path, "echo", "--job", "x", "--", "--help", "")
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"--job x -- --help \n"


def test_a_command_without_a_name_cannot_be_found(sidecar: ProducersSocket) -> None:
    assert run(sidecar, "", stderr=subprocess.DEVNULL) == 127


def test_a_damaged_image_does_not_end_the_report(sidecar: ProducersSocket, tmp_path: Path) -> None:
    """Its header claims more bytes than any figure may be."""
    source = tmp_path / "damaged.qcow2"
    source.write_bytes(b"QFI\xfb" + bytes(20) + b"\xff" * 8)
    tool = tmp_path / "qemu-img"
    tool.write_text("#!/bin/sh\nprintf '    (50.00/100%%)\\r'; sleep 0.5\n")
    tool.chmod(0o755)
    assert run(sidecar, str(tool), "convert", str(source), "b") == 0
    assert sidecar.values("progress_percent") == [50.0]
    assert sidecar.lines[-1]["status"] == "completed"


@pytest.mark.parametrize(
    "options",
    [
        ["--disk", "0"],
        ["--of", "2"],
        ["--total-bytes", "-1"],
        ["--timeout", "x"],
        ["--timeout", "0"],
        ["--timeout", "5w"],
        ["--timeout", "s"],
        ["--timeout", "-1"],
        ["--phase", "x" * 51],
    ],
)
def test_a_wrong_command_line_is_told_before_anything_runs(options: list[str], tmp_path: Path) -> None:
    command = wrapped(tmp_path / "none", "touch", str(tmp_path / "ran"), options=tuple(options))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
    assert not (tmp_path / "ran").exists()


def test_a_reader_of_stdout_that_is_gone_does_not_disturb_the_report(sidecar: ProducersSocket) -> None:
    process = started(sidecar.path, "echo ready; read line; exec 1>&-; exit 0", stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.close()
    process.stdin.close()
    assert process.wait(20) == 0
    sidecar.wait_for(has(status="completed"))
