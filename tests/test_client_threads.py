"""The Python library in programs that use threads, forks, signals and asyncio, or that run out of descriptors."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from sbc_daemon.client import Job
from tests.support.producers_socket import Line, ProducersSocket, producers_socket


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[ProducersSocket]:
    with producers_socket(tmp_path / "socket") as listening:
        yield listening


def has(**wanted: object) -> Callable[[list[Line]], Line | None]:
    return lambda said: next((line for line in said if wanted.items() <= line.items()), None)


def test_many_threads_report_one_job_each_in_its_order_and_the_end_is_the_last(sidecar: ProducersSocket) -> None:
    job = Job("j1", path=str(sidecar.path))

    def report(disk: int) -> None:
        for step in range(10):
            job.phase(f"{disk} {step}")
            job.progress(step, disk=disk)
            job.disk(disk, "transferring")

    threads = [threading.Thread(target=report, args=(disk,)) for disk in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert job.done(timeout=20)
    phases = [line["current_phase"] for line in sidecar.lines if "current_phase" in line]
    for disk in range(8):
        assert [phase for phase in phases if phase.startswith(f"{disk} ")] == [f"{disk} {step}" for step in range(10)]
    assert sidecar.lines[-1]["status"] == "completed"
    assert {disk["disk_index"]: disk["bytes_transferred"] for disk in sidecar.lines[-1]["disks"]} == dict.fromkeys(
        range(8), 9
    )


def test_of_two_threads_that_end_a_job_one_does(sidecar: ProducersSocket) -> None:
    for _ in range(20):
        job = Job("j1", path=str(sidecar.path))
        ends = [threading.Thread(target=job.done), threading.Thread(target=job.fail, args=("torn",))]
        for end in ends:
            end.start()
        for end in ends:
            end.join()

    def ends_said(lines: list[Line]) -> int:
        return sum(line.get("status") in ("completed", "failed") for line in lines)

    sidecar.wait_for(lambda said: ends_said(said) >= 20)
    assert ends_said(sidecar.lines) == 20


def test_a_signals_handler_may_report_from_within_a_report(sidecar: ProducersSocket) -> None:
    job = Job("j1", path=str(sidecar.path))
    handled = 0

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal handled
        handled += 1
        job.phase(f"handler {handled}")

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        deadline = time.monotonic() + 20
        while handled <= 10 and time.monotonic() < deadline:
            job.phase("main")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert handled > 10
    assert job.done(timeout=20)


def test_a_child_forked_at_any_moment_ends_its_copy_without_a_word_or_a_wait(sidecar: ProducersSocket) -> None:
    job = Job("j1", path=str(sidecar.path))
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            job.phase("parent")
            job.progress(5)

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(15):
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            job.phase("child")
            job.fail("child")
            os._exit(0)
        children.append(child)
    stop.set()
    for thread in threads:
        thread.join()
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 15
    assert job.done(timeout=20)
    assert not has(current_phase="child")(sidecar.lines)
    assert not has(status="failed")(sidecar.lines)


async def test_in_asyncio_reports_do_not_wait_and_the_end_is_awaited_in_a_thread(sidecar: ProducersSocket) -> None:
    job = Job("j1", path=str(sidecar.path))
    job.phase("transferring")
    for done in range(10):
        job.progress(done)
        await asyncio.sleep(0)
    assert await asyncio.to_thread(job.done)
    assert sidecar.lines[-1]["bytes_transferred"] == 9


async def test_a_task_that_is_cancelled_has_failed(sidecar: ProducersSocket) -> None:
    async def backup() -> None:
        with Job("j1", path=str(sidecar.path)):
            await asyncio.sleep(60)

    task = asyncio.create_task(backup())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sidecar.lines[-1]["error"] == {"message": "CancelledError", "code": "CancelledError"}


def test_an_end_that_nobody_heard_in_time_is_said_when_the_sidecar_is_back(tmp_path: Path) -> None:
    job = Job("j1", path=str(tmp_path / "late"))
    job.progress(7)
    assert job.done(timeout=0.05) is False
    with producers_socket(tmp_path / "late") as sidecar:
        sidecar.wait_for(has(status="completed"))
        assert sidecar.lines[-1]["bytes_transferred"] == 7
        assert job.close(timeout=10) is True


def test_a_job_that_is_closed_without_an_end_says_nothing_later(tmp_path: Path) -> None:
    job = Job("j1", path=str(tmp_path / "late"))
    assert job.close(timeout=0.05) is False
    with producers_socket(tmp_path / "late") as sidecar:
        time.sleep(0.4)
        assert sidecar.lines == []


def run(code: str, path: Path, directory: Path) -> "subprocess.CompletedProcess[bytes]":
    """In a process of its own, as it ruins it."""
    program = (
        f"import os, resource, time\nfrom sbc_daemon.client import Job\njob = Job('j1', path={str(path)!r})\n{code}"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=20, cwd=directory)


def test_a_process_that_has_no_descriptor_left_reports_when_it_has_one_again(tmp_path: Path) -> None:
    code = """
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
print(flush=True)
input()
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
raise SystemExit(not job.done(timeout=10))
"""
    program = (
        f"import resource\nfrom sbc_daemon.client import Job\njob = Job('j1', path={str(tmp_path / 's')!r})\n{code}"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with producers_socket(tmp_path / "s") as sidecar:
            time.sleep(0.5)
            process.communicate(b"\n", timeout=20)
            assert process.returncode == 0
            assert sidecar.lines[-1]["status"] == "completed"


def test_a_process_that_closes_all_its_descriptors_gets_nothing_written_into_its_files(
    sidecar: ProducersSocket, tmp_path: Path
) -> None:
    """As old daemons do. Whatever has the numbers of our sockets now is somebody's backup."""
    code = f"""
time.sleep(0.2)
os.closerange(3, 100)
files = [open(f"{tmp_path}/image-{{n}}", "wb") for n in range(20)]
for n in range(20):
    job.progress(n)
    job.phase(f"phase {{n}}")
began = time.monotonic()
job.done(timeout=1)
assert time.monotonic() - began < 5
"""
    ended = run(code, sidecar.path, Path.cwd())
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert [image.stat().st_size for image in sorted(tmp_path.glob("image-*"))] == [0] * 20


@pytest.mark.parametrize("share", [([], 2), ([0, 1, 2], 2), ([0], 0), ([0], 70_000), ([70_000], 2)])
def test_a_share_that_no_job_can_have_is_refused(share: tuple[list[int], int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"attach_disks|disk's index"):
        Job("j1", attach_disks=share, path=str(tmp_path / "none"))
