"""What demo and tests stand on: disks that are the same at each run, daemons that do not outlive their owner."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.disks import MIB, Served, first_difference, make_image
from testbed.installation import sidecar_settings
from testbed.processes import Daemon, DaemonFailed, _own_ports, clean_environment
from tests.support.stage import eventually


def test_the_same_seed_makes_the_same_disk_and_another_one_another(tmp_path: Path) -> None:
    one, two = make_image(tmp_path / "1", 40, seed=5), make_image(tmp_path / "2", 40, seed=5)
    other = make_image(tmp_path / "3", 40, seed=6)
    assert first_difference(one.path, two.path) is None
    assert first_difference(one.path, other.path) is not None


def test_a_disk_has_data_zeros_and_holes(tmp_path: Path) -> None:
    image = make_image(tmp_path / "disk", 200, seed=1)
    content = image.path.read_bytes()
    data = sum(any(content[place : place + MIB]) for place in range(0, len(content), MIB)) * MIB
    assert (len(content), image.size) == (200 * MIB, 200 * MIB)
    assert data < image.stored_bytes < image.size


@pytest.mark.parametrize(
    ("one", "other", "offset"),
    [
        (b"", b"", None),
        (b"abc", b"abc", None),
        (b"abc", b"abd", 2),
        (b"abc", b"ab", 2),
        (b"", b"a", 0),
        (bytes(MIB) + b"x", bytes(MIB) + b"y", MIB),
    ],
)
def test_the_first_difference_is_found(tmp_path: Path, one: bytes, other: bytes, offset: int | None) -> None:
    (tmp_path / "1").write_bytes(one)
    (tmp_path / "2").write_bytes(other)
    assert first_difference(tmp_path / "1", tmp_path / "2") == offset


@pytest.mark.integration
def test_a_served_disk_can_be_copied(tmp_path: Path) -> None:
    image = make_image(tmp_path / "disk", 8, seed=1)
    with Served(image, tmp_path / "nbd.sock", seconds=0.5) as disk:
        subprocess.run(["nbdcopy", disk.uri, str(tmp_path / "copy")], check=True)
    assert first_difference(image.path, tmp_path / "copy") is None


@pytest.mark.integration
def test_a_daemon_that_cannot_start_says_why(tmp_path: Path) -> None:
    settings = sidecar_settings(tmp_path, "http://127.0.0.1:9")
    daemon = Daemon("sbc-daemon", tmp_path, settings, {"SBC_HUB_NONSENSE": "1"})
    with pytest.raises(DaemonFailed, match=r"exit status 2\n.*SBC_HUB_NONSENSE"):
        daemon.start()
    daemon.close()


OWNER = """
import sys, time
from pathlib import Path
from testbed.installation import sidecar_settings
from testbed.processes import Daemon
directory = Path(sys.argv[1])
with Daemon("sbc-daemon", directory, sidecar_settings(directory, "http://127.0.0.1:9")) as daemon:
    print(daemon.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.integration
def test_a_daemon_dies_with_its_owner_however_that_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environment()) as owner:
        assert owner.stdout is not None
        watched = os.pidfd_open(int(owner.stdout.readline()))
        owner.send_signal(signal.SIGKILL)
    eventually(lambda: ended(watched))
    os.close(watched)


def ended(pidfd: int) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("first", "last", "ports"),
    [
        (32_768, 60_999, (10_000, 32_767)),
        (1024, 60_999, (61_000, 65_535)),
        (10_500, 60_999, (61_000, 65_535)),
        (1024, 65_535, (10_000, 65_535)),
    ],
)
def test_ports_are_taken_from_beside_those_of_connections(first: int, last: int, ports: tuple[int, int]) -> None:
    assert _own_ports(first, last) == ports
