"""`sbc-report run` around real nbdcopy and real qemu-img: the same bytes with and without it, and true figures."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sbc_daemon.report import sizes
from tests.support.producers_socket import ProducersSocket, producers_socket

pytestmark = pytest.mark.integration
MIB = 1 << 20
SIZE = 12 * MIB


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[ProducersSocket]:
    with producers_socket(tmp_path / "socket") as listening:
        yield listening


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Data, a hole, and data at the end."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as image:
        image.write(os.urandom(8 * MIB))
        image.truncate(SIZE - MIB)
        image.seek(SIZE - MIB)
        image.write(os.urandom(MIB))
    return path


@pytest.fixture
def served(disk: Path, tmp_path: Path) -> Iterator[str]:
    """The disk on a real NBD server that gives out about 6 MiB a second; its URI."""
    address, ready = tmp_path / "nbd", tmp_path / "nbd.pid"
    options = ["--exit-with-parent", "-f", "-r", "-U", str(address), "-P", str(ready)]
    with subprocess.Popen(
        ["nbdkit", *options, "--filter=rate", "file", str(disk), "rate=48M", "burstiness=0.1"]
    ) as server:
        wait_until(ready.exists)
        yield f"nbd+unix:///?socket={address}"
        server.terminate()


def wait_until(true: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def wrapped(sidecar: ProducersSocket, *command: str, options: tuple[str, ...] = ()) -> list[str]:
    start = [sys.executable, "-m", "sbc_daemon.report.command", "run", "--job", "j1"]
    return [*start, "--socket", str(sidecar.path), *options, "--", *command]


def run(sidecar: ProducersSocket, *command: str, options: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(wrapped(sidecar, *command, options=options), capture_output=True, check=False)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_honest(counts: list[int], total: int) -> None:
    """Some progress on the way, never falling, the whole only at the end."""
    assert len(counts) > 2
    assert all(before <= after for before, after in pairwise(counts))
    assert counts[-1] == total
    assert max(counts[:-1]) < total


def test_nbdcopy_is_followed_and_copies_the_same_bytes(
    sidecar: ProducersSocket, served: str, disk: Path, tmp_path: Path
) -> None:
    ended = run(sidecar, "nbdcopy", served, str(tmp_path / "copy"))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert digest(tmp_path / "copy") == digest(disk)
    assert_honest(sidecar.values("bytes_transferred"), SIZE)
    assert sidecar.values("total_bytes") == [SIZE]
    assert sidecar.lines[-1]["status"] == "completed"


def test_nbdcopy_as_one_disk_of_two_reports_that_disk(sidecar: ProducersSocket, served: str, tmp_path: Path) -> None:
    run(sidecar, "nbdcopy", served, str(tmp_path / "copy"), options=("--disk", "1", "--of", "2"))
    disks = [disk for line in sidecar.lines for disk in line.get("disks", [])]
    counts = [disk["bytes_transferred"] for disk in disks if "bytes_transferred" in disk]
    assert_honest([0, *dict.fromkeys(counts)], SIZE)
    assert {disk["disk_index"] for disk in disks} == {1}
    assert not any("bytes_transferred" in line for line in sidecar.lines)


def test_an_older_larger_target_is_not_mistaken_for_the_total(
    sidecar: ProducersSocket, served: str, tmp_path: Path
) -> None:
    (tmp_path / "copy").write_bytes(bytes(2 * SIZE))
    run(sidecar, "nbdcopy", served, str(tmp_path / "copy"))
    assert sidecar.values("total_bytes") == [SIZE]


def test_nbdcopys_failure_is_reported_with_its_own_words_on_stderr(sidecar: ProducersSocket, tmp_path: Path) -> None:
    command = ["nbdcopy", "nbd+unix:///?socket=/nonexistent", str(tmp_path / "copy")]
    plain = subprocess.run(command, capture_output=True, check=False)
    ended = run(sidecar, *command)
    assert (ended.returncode, ended.stderr) == (plain.returncode, plain.stderr)
    assert sidecar.lines[-1]["error"] == {"message": "nbdcopy exited with code 1"}


def test_a_killed_nbdcopy_is_reported_as_killed(sidecar: ProducersSocket, served: str, tmp_path: Path) -> None:
    process = subprocess.Popen(wrapped(sidecar, "nbdcopy", served, str(tmp_path / "copy")))
    sidecar.wait_for(lambda lines: any("bytes_transferred" in line for line in lines))
    os.kill(int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()), signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL
    assert sidecar.lines[-1]["error"]["message"] == "nbdcopy was killed by signal 9 (SIGKILL)"


def test_nbdcopy_survives_the_death_of_its_wrapper(
    sidecar: ProducersSocket, served: str, disk: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(wrapped(sidecar, "nbdcopy", served, str(tmp_path / "copy")))
    sidecar.wait_for(lambda lines: any("bytes_transferred" in line for line in lines))
    tool = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().strip()
    process.kill()
    process.wait()
    wait_until(lambda: not Path(f"/proc/{tool}").exists() or "State:\tZ" in Path(f"/proc/{tool}/status").read_text())
    assert digest(tmp_path / "copy") == digest(disk)


def test_its_progress_descriptor_is_a_regular_file_without_a_name(sidecar: ProducersSocket, served: str) -> None:
    process = subprocess.Popen(wrapped(sidecar, "nbdcopy", served, "null:"))
    sidecar.wait_for(lambda lines: any("progress_percent" in line for line in lines))
    tool = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().strip()
    words = Path(f"/proc/{tool}/cmdline").read_bytes().split(b"\0")
    descriptor = int(next(word for word in words if word.startswith(b"--progress=")).partition(b"=")[2])
    seen = Path(f"/proc/{tool}/fd/{descriptor}").stat()
    assert (seen.st_mode & 0o170000, seen.st_nlink) == (0o100000, 0)
    process.terminate()
    assert process.wait(20) == -signal.SIGTERM


def test_a_progress_bar_that_was_asked_for_is_left_alone(sidecar: ProducersSocket, disk: Path, tmp_path: Path) -> None:
    command = ["nbdcopy", "--progress=1", str(disk), str(tmp_path / "copy")]
    plain = subprocess.run(command, capture_output=True, check=True)
    ended = run(sidecar, *command)
    assert ended.stdout.splitlines()[-1] == plain.stdout.splitlines()[-1] == b"100/100"
    assert sidecar.values("bytes_transferred") == [SIZE]


def test_qemu_img_is_followed_and_its_stdout_stays_empty(
    sidecar: ProducersSocket, served: str, disk: Path, tmp_path: Path
) -> None:
    command = ["qemu-img", "convert", "-m", "1", "-f", "raw", "-O", "qcow2", served, str(tmp_path / "copy.qcow2")]
    ended = run(sidecar, *command)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    subprocess.run(["qemu-img", "compare", "-q", str(disk), str(tmp_path / "copy.qcow2")], check=True)
    assert_honest(sidecar.values("bytes_transferred"), SIZE)
    assert sidecar.values("total_bytes") == [SIZE]


def test_qemu_imgs_own_progress_reaches_stdout_byte_for_byte(
    sidecar: ProducersSocket, disk: Path, tmp_path: Path
) -> None:
    command = ["qemu-img", "convert", "-p", "-m", "1", "-f", "raw", "-O", "qcow2", str(disk), str(tmp_path / "copy")]
    plain = subprocess.run(command, capture_output=True, check=True)
    ended = run(sidecar, *command)
    assert plain.stdout.endswith(b"(100.00/100%)\r\n")
    assert ended.stdout == plain.stdout
    assert sidecar.values("bytes_transferred") == [SIZE]


@pytest.mark.parametrize("options", [["--help"], ["-O", "raw", "/nonexistent", "copy"], ["--wrong"]])
def test_what_qemu_img_says_besides_is_the_same(sidecar: ProducersSocket, options: list[str], tmp_path: Path) -> None:
    command = ["qemu-img", "convert", *options]
    plain = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path)
    ended = run(sidecar, *command)
    assert (ended.stdout, ended.stderr, ended.returncode) == (plain.stdout, plain.stderr, plain.returncode)


def test_qemu_img_that_writes_the_image_to_stdout_is_left_alone(sidecar: ProducersSocket, disk: Path) -> None:
    ended = run(sidecar, "qemu-img", "dd", "-O", "raw", f"if={disk}", "of=/dev/stdout")
    plain = subprocess.run(
        ["qemu-img", "dd", "-O", "raw", f"if={disk}", "of=/dev/stdout"], capture_output=True, check=False
    )
    assert (ended.stdout, ended.returncode) == (plain.stdout, plain.returncode)


def test_sizes_are_read_from_real_images(disk: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "5G"], check=True)
    assert sizes.image_size(str(image), "qcow2") == sizes.image_size(str(image), None) == 5 << 30
    assert sizes.raw_size(str(disk)) == SIZE
    assert 9 * MIB <= (sizes.allocated(str(disk)) or 0) < SIZE
    for nothing in (str(tmp_path), "/dev/null", "nbd://host", "\0", "/nonexistent", None):
        assert (sizes.raw_size(nothing), sizes.image_size(nothing, None), sizes.allocated(nothing)) == (None,) * 3
