"""`sbc-report run` with every kind of sidecar: none of them is noticed by the backup, and a real one has it right."""

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.producers_socket import producers_socket
from tests.support.reporting import Desk, desk
from tests.support.stage import eventually
from tests.support.wrapped import SH, started, wrapped

SCRIPT = "printf 'out\\000'; echo err >&2; exit 3"


@pytest.fixture
def own_process(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A sidecar's socket at `tmp_path/socket` in a process that can be stopped and killed."""
    command = [sys.executable, "-m", "tests.support.producers_socket", str(tmp_path / "socket")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def ran(path: Path) -> tuple[bytes, bytes, int]:
    """What is seen of a wrapped script; fails the test where the sidecar delays it beyond the bound."""
    before = time.monotonic()
    ended = subprocess.run(wrapped(path, *SH, SCRIPT), capture_output=True, check=False)
    assert time.monotonic() - before < 8
    return ended.stdout, ended.stderr, ended.returncode


AS_IT_IS = (b"out\0", b"err\n", 3)


def test_without_a_sidecar_nothing_is_different(tmp_path: Path) -> None:
    assert ran(tmp_path / "none") == AS_IT_IS


@pytest.mark.parametrize("path", ["x" * 200, "\udcff", "directory"])
def test_with_a_socket_that_cannot_be_one_nothing_is_different(tmp_path: Path, path: str) -> None:
    (tmp_path / "directory").mkdir()
    assert ran(tmp_path / path) == AS_IT_IS


def test_a_sidecar_that_is_stopped_delays_the_end_by_its_bound_only(
    own_process: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    own_process.send_signal(signal.SIGSTOP)
    assert ran(tmp_path / "socket") == AS_IT_IS


def test_a_sidecar_that_accepts_nothing_more_delays_the_end_by_its_bound_only(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "full"))
        listener.listen(0)
        assert ran(tmp_path / "full") == AS_IT_IS


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_sidecar_that_goes_away_in_the_middle_is_not_noticed(
    own_process: "subprocess.Popen[bytes]", tmp_path: Path, number: signal.Signals
) -> None:
    process = started(tmp_path / "socket", "echo ready; read line; echo on; exit 5", stdin=subprocess.PIPE)
    own_process.send_signal(number)
    os.waitpid(own_process.pid, os.WUNTRACED)
    before = time.monotonic()
    rest, _ = process.communicate(b"\n", timeout=20)
    assert (rest, process.returncode) == (b"on\n", 5)
    assert time.monotonic() - before < 5


def test_a_sidecar_that_takes_its_time_is_waited_for_at_the_end_and_no_longer(tmp_path: Path) -> None:
    def slowly(_: object) -> dict[str, object]:
        time.sleep(0.4)
        return {"ok": True}

    with producers_socket(tmp_path / "slow") as sidecar:
        sidecar.answers = slowly
        process = started(tmp_path / "slow", "echo ready; read line; exit 5", stdin=subprocess.PIPE)
        sidecar.wait_for(lambda lines: lines)
        process.communicate(b"\n", timeout=20)
        assert process.returncode == 5
        assert sidecar.lines[-1]["status"] == "failed"


def test_a_sidecar_that_never_reads_does_not_hold_up_a_tool_that_tells_much_progress(tmp_path: Path) -> None:
    """`nbdcopy` of our own, which tells 200,000 lines while nobody reads; it is as fast as with no wrapper."""
    tool = tmp_path / "nbdcopy"
    code = (
        "import os, sys; fd = int(sys.argv[1][11:]); [os.write(fd, b'%d/100\\n' % (n % 100)) for n in range(200_000)]"
    )
    tool.write_text(f"#!{sys.executable}\n{code}\n")
    tool.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "deaf"))
        listener.listen(8)
        ended = subprocess.run(wrapped(tmp_path / "deaf", str(tool), "a", "b"), capture_output=True, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == (b"", b"", 0)


@pytest.mark.integration
@pytest.mark.parametrize(
    "command", [["nbdcopy", "-C", "1", "URI", "COPY"], ["qemu-img", "convert", "-O", "raw", "URI", "COPY"]]
)
def test_the_nbd_server_is_never_connected_to_a_second_time(tmp_path: Path, command: list[str]) -> None:
    """By a server that takes one connection at a time, and logs all: those of the tool alone, and not one more."""
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.write_bytes(os.urandom(2 << 20))
    with producers_socket(tmp_path / "socket") as sidecar:
        plain = connections(tmp_path, disk, command, [])
        inside = connections(tmp_path, disk, command, wrapped(sidecar.path))
        assert inside == plain
        assert hashlib.sha256(copy.read_bytes()).digest() == hashlib.sha256(disk.read_bytes()).digest()
        assert sidecar.values("total_bytes") == [2 << 20]


def connections(directory: Path, disk: Path, command: list[str], wrapper: list[str]) -> int:
    """How often the server was connected to while the command copied."""
    address, log, copy = directory / "nbd", directory / "nbd.log", directory / "copy"
    for left in (address, log, copy):
        left.unlink(missing_ok=True)
    options = ["--exit-with-parent", "-f", "-r", "-U", str(address), "--filter=log", "--filter=limit"]
    words = [str(copy) if word == "COPY" else word.replace("URI", f"nbd+unix:///?socket={address}") for word in command]
    with subprocess.Popen(["nbdkit", *options, "file", str(disk), f"logfile={log}", "limit=1"]) as server:
        eventually(address.exists)
        subprocess.run([*wrapper, *words], check=True)
        server.terminate()
    return log.read_text().count(" Connect ")


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as made:
        yield made


async def copying(counter: Desk, disk: int, script: str) -> asyncio.subprocess.Process:
    command = wrapped(Path(counter.path), *SH, script, options=("--disk", str(disk), "--of", "3"))
    return await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)


async def ends(process: asyncio.subprocess.Process) -> int:
    assert process.stdin is not None
    process.stdin.close()
    return await process.wait()


@pytest.mark.parametrize(
    ("second", "status", "error"), [("exit 0", "completed", None), ("exit 9", "failed", "sh exited with code 9")]
)
async def test_several_wrapped_commands_are_one_job_that_ends_with_the_last_and_fails_with_one(
    counter: Desk, second: str, status: str, error: str | None
) -> None:
    processes = [await copying(counter, disk, f"read x; {second if disk == 1 else 'exit 0'}") for disk in range(3)]
    await counter.until(lambda: disks(counter) == ["transferring"] * 3)
    for disk, process in enumerate(processes):
        assert counter.status() == "running"
        await ends(process)
        await counter.until(partial(has_ended, counter, disk))
    await counter.until(lambda: counter.status() == status)
    last = counter.last()
    assert last is not None
    assert (last.error.message if last.error else None) == error
    assert disks(counter) == ["completed", "failed" if error else "completed", "completed"]


def has_ended(counter: Desk, disk: int) -> bool:
    return disks(counter)[disk] in ("completed", "failed")


def disks(counter: Desk) -> list[object]:
    last = counter.last()
    return [disk.status for disk in last.disks or ()] if last else []


async def test_a_wrapper_that_is_killed_fails_its_disk_while_its_command_and_the_others_go_on(counter: Desk) -> None:
    killed, other = [await copying(counter, disk, "read x; exit 0") for disk in (0, 1)]
    await counter.until(lambda: disks(counter) == ["transferring"] * 2)
    killed.kill()
    await counter.until(lambda: disks(counter) == ["failed", "transferring"], 2.0)
    assert await ends(other) == 0
    await ends(killed)
    await counter.until(lambda: disks(counter) == ["failed", "completed"])
    assert counter.status() == "running"  # the third has never come


async def test_a_killed_wrapper_is_a_failed_job_within_two_seconds(counter: Desk) -> None:
    command = wrapped(Path(counter.path), *SH, "read x")
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
    await counter.until(lambda: counter.status() == "running")
    process.kill()
    await counter.until(lambda: counter.status() == "failed", 2.0)
    last = counter.last()
    assert last is not None
    assert last.error
    assert last.error.message == f"backup process (pid {process.pid}) ended without reporting an outcome"
    await ends(process)


async def test_a_wrapped_script_that_says_more_is_understood(counter: Desk) -> None:
    say = f"{sys.executable} -m sbc_daemon.report.command"
    script = f"{say} phase transferring && {say} progress 5 --total-bytes 10"
    command = wrapped(Path(counter.path), *SH, script, options=("--phase", "snapshot"))
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
    await counter.until(lambda: counter.status() == "completed")
    phases = [message.update.current_phase for message in counter.outbox.kept]
    assert list(dict.fromkeys(phases)) == ["snapshot", "transferring"]
    assert json.loads(counter.outbox.kept[-1].body(counter.outbox.kept[-1].taken))["bytes_transferred"] == 5
