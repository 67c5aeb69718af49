"""The whole way, with real processes: from a producer's line to the rows of MariaDB."""

import signal
import subprocess
from pathlib import Path

import pytest

from demo.backup import Backup
from testbed.disks import Image, make_image
from tests.support.stage import RealHub, RealSidecar, eventually, hub, sidecar

__all__ = ["hub", "sidecar"]
pytestmark = pytest.mark.integration


@pytest.fixture
def images(tmp_path: Path) -> list[Image]:
    return [make_image(tmp_path / f"disk{index}.raw", pieces, seed=index) for index, pieces in enumerate((16, 5))]


@pytest.fixture
def job(hub: RealHub) -> str:
    hub.create_job("backup-vm-1", disks=2)
    return "backup-vm-1"


def test_a_line_written_by_nc_is_committed_to_mariadb(hub: RealHub, sidecar: RealSidecar, job: str) -> None:
    line = f'{{"job_id":"{job}","status":"running","bytes_transferred":5}}\n'
    subprocess.run(["nc", "-U", "-q0", sidecar.socket], input=line.encode(), check=True)
    hub.wait_for(job, "running")
    assert hub.rows(job)[0].bytes_transferred == 5


def test_a_real_backup_of_two_disks_ends_up_complete(
    hub: RealHub, sidecar: RealSidecar, job: str, images: list[Image], tmp_path: Path
) -> None:
    with Backup(job, images, tmp_path, 1.0, sidecar.socket) as backup:
        eventually(lambda: not backup.running())
        assert (backup.exit_statuses, backup.differences()) == ([0, 0], [None, None])
    hub.wait_for(job, "completed")
    row, disks = hub.rows(job)
    assert [disk.status for disk in disks] == ["completed", "completed"]
    assert row.percent == 100
    assert row.bytes_transferred == sum(disk.bytes_transferred for disk in disks) == 21 << 20


def test_a_backup_killed_as_a_whole_is_failed_with_the_reason_within_two_seconds(
    hub: RealHub, sidecar: RealSidecar, job: str, images: list[Image], tmp_path: Path
) -> None:
    with Backup(job, images, tmp_path, 30.0, sidecar.socket) as backup:
        eventually(lambda: hub.disk_statuses(job) == ["running", "running"])
        assert backup.running()
        backup.kill()
        failed = hub.wait_for(job, "failed", seconds=2)
    assert "ended without reporting an outcome" in (failed.error_message or "")
    assert [disk.status for disk in failed.disks] == ["failed", "failed"]


def test_one_killed_disk_of_two_fails_the_job_when_the_other_has_ended(
    hub: RealHub, sidecar: RealSidecar, job: str, images: list[Image], tmp_path: Path
) -> None:
    with Backup(job, images, tmp_path, 3.0, sidecar.socket) as backup:
        eventually(lambda: hub.disk_statuses(job) == ["running", "running"])
        backup.signal_copy(1, signal.SIGKILL)
        failed = hub.wait_for(job, "failed")
        eventually(lambda: not backup.running())
    assert {disk.disk_index: disk.status for disk in failed.disks}[1] == "failed"


def test_what_was_said_while_the_hub_was_away_arrives_when_it_is_back(
    hub: RealHub, sidecar: RealSidecar, job: str
) -> None:
    hub.stop()
    assert sidecar.ask(job_id=job, status="running", bytes_transferred=7)["ok"]
    assert sidecar.ask(job_id=job, status="completed", bytes_transferred=9)["ok"]
    hub.start()
    assert hub.wait_for(job, "completed").bytes_transferred == 9


def test_what_was_acknowledged_survives_kill_9_of_the_sidecar(hub: RealHub, sidecar: RealSidecar, job: str) -> None:
    hub.stop()
    assert sidecar.ask(job_id=job, status="completed", bytes_transferred=9)["ok"]
    sidecar.kill()
    hub.start()
    sidecar.start()
    assert hub.wait_for(job, "completed").bytes_transferred == 9


def test_what_was_committed_survives_kill_9_of_the_hub(hub: RealHub, sidecar: RealSidecar, job: str) -> None:
    sidecar.say(f'{{"job_id":"{job}","status":"running","bytes_transferred":5}}\n'.encode())
    hub.wait_for(job, "running")
    hub.kill()
    hub.start()
    assert hub.rows(job)[0].bytes_transferred == 5
    assert sidecar.ask(job_id=job, status="completed")["ok"]
    hub.wait_for(job, "completed")


BAD_LINES = [
    b"not json\n",
    b'{"job_id":7}\n',
    b'{"job_id":"x","bytes_transferred":1e400}\n',
    b'{"job_id":"x","status":"finished"}\n',
    b"x" * (1 << 20) + b"\n",
    b"\xff\xfe\n",
    b"[" * 60_000 + b"\n",
    b'{"job_id":"no-such-job","status":"running"}\n',
]


def test_bad_input_delays_nobody_elses_news(hub: RealHub, sidecar: RealSidecar, job: str) -> None:
    for line in BAD_LINES:
        sidecar.say(line)
    assert sidecar.ask(job_id=job, status="completed", bytes_transferred=3)["ok"]
    hub.wait_for(job, "completed")
    assert sidecar.stop() == 0
