"""With which process a job lives that a script has started with `sbc-report start`."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.producers_socket import ProducersSocket, producers_socket
from tests.support.reporting import Desk, desk
from tests.support.wrapped import REPORT

START = f"{' '.join(REPORT)} start"
SHELLS = ["bash", "dash"]


@pytest.fixture
def sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProducersSocket]:
    with producers_socket(tmp_path / "socket") as listening:
        monkeypatch.setenv("SBC_SOCKET", str(listening.path))
        monkeypatch.setenv("SBC_JOB_ID", "j1")
        yield listening


def attached_by(sidecar: ProducersSocket, script: list[str]) -> tuple[int, int]:
    """The pid that a start in the script has attached while the script lives (-1: ended already), and the script's."""
    with subprocess.Popen(script, stdin=subprocess.PIPE) as process:
        sidecar.wait_for(lambda lines: lines)
        pid = pid_of(sidecar.fds[0])
        deadline = time.monotonic() + 10.0
        while pid != -1 and pid != process.pid and time.monotonic() < deadline:
            time.sleep(0.01)
            pid = pid_of(sidecar.fds[0])
        return pid, process.pid


def pid_of(pidfd: int) -> int:
    text = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pid:")))


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "script",
    [
        "START; read x",
        "if START; then read x; fi",
        "f() { START; }; f; read x",
        "START | cat; read x",
        "( START ); read x",
        "said=$(START); read x",
        "timeout 20 START; read x",
        "sudo START; read x",
        "sudo timeout 20 START; read x",
        "( exec START ); read x",
    ],
)
def test_a_job_lives_with_the_script_that_started_it(
    sidecar: ProducersSocket, shell: str, script: str, as_sudo: None
) -> None:
    attached, own = attached_by(sidecar, [shell, "-c", script.replace("START", START)])
    assert attached == own


@pytest.fixture
def as_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of this name that waits for the command it runs, as sudo does."""
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\n"$@"\nexit $?\n')
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("script", ["( START; true ); read x", "said=$(START; true); read x"])
def test_a_subshell_with_more_than_the_start_in_it_is_a_process_of_its_own(
    sidecar: ProducersSocket, shell: str, script: str
) -> None:
    attached, _ = attached_by(sidecar, [shell, "-c", script.replace("START", START)])
    assert attached == -1


@pytest.mark.parametrize("shell", SHELLS)
def test_from_a_subshell_a_script_names_itself(sidecar: ProducersSocket, shell: str) -> None:
    attached, own = attached_by(sidecar, [shell, "-c", f"said=$({START} --pid $$; true); read x"])
    assert attached == own


@pytest.mark.parametrize("keeper", ["systemd", "sshd", "cron"])
def test_what_a_service_manager_has_started_itself_lives_with_nobody_and_is_told(
    sidecar: ProducersSocket, tmp_path: Path, keeper: str
) -> None:
    manager = tmp_path / keeper
    manager.write_text(f"#!/bin/sh\n{START}\nread x\n")
    manager.chmod(0o755)
    with subprocess.Popen([str(manager)], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        _, said = process.communicate(b"\n", timeout=20)
    assert "attach" not in sidecar.lines[0]
    assert b"give --pid, or nobody will notice its death" in said


@pytest.fixture
async def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setenv("SBC_JOB_ID", "j1")
    async with desk(tmp_path) as made:
        monkeypatch.setenv("SBC_SOCKET", made.path)
        yield made


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_script_that_says_nothing_lives_and_its_death_is_known_within_two_seconds(
    counter: Desk, shell: str
) -> None:
    """The interval is 0.2 s here: every heartbeat is one for which the hub would not call the job silent."""
    script = await running(shell, f"{START}; read x")
    await counter.until(lambda: sum(message.reason == "heartbeat" for message in counter.outbox.kept) >= 5)
    assert counter.status() == "running"
    script.kill()
    await counter.until(lambda: counter.status() == "failed", 2.0)
    await script.wait()


async def running(shell: str, script: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(shell, "-c", script, stdin=asyncio.subprocess.PIPE)


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_script_that_ends_without_a_word_has_failed_and_one_that_said_done_has_not(
    counter: Desk, shell: str
) -> None:
    done = f"{' '.join(REPORT)} done"
    scripts = [f"{START} --job one; true", f"{START} --job two; true; {done} --job two"]
    for script in [await running(shell, text) for text in scripts]:
        await script.wait()
    await counter.until(lambda: counter.status("one") == "failed", 2.0)
    assert counter.status("two") == "completed"
