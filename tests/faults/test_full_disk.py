"""The outbox on a disk that fills, under the real daemon: acks tell the truth, news goes on, room heals."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from sbc_daemon.config import CadenceSettings
from sbc_daemon.status import OutboxState, Status
from sha_daemon.config import DatabaseSettings
from testbed.installation import command, hub_settings, sidecar_settings
from testbed.mariadb import PrivateMariaDB
from tests.faults.conftest import Note
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.stage import RealHub, RealSidecar, eventually

pytestmark = pytest.mark.integration

JOBS = 40
CADENCE = CadenceSettings(interval_seconds=0.5)


class Scene:
    def __init__(self, hub: RealHub, sidecar: RealSidecar, disk: SmallDisk) -> None:
        self.hub, self.sidecar, self.disk = hub, sidecar, disk

    def outbox(self) -> OutboxState:
        said = command("sbcctl", "status", "--json", "--config", str(self.sidecar.config_file))
        return msgspec.json.decode(said, type=Status).outbox

    def bytes(self, job_id: str) -> int:
        job = self.hub.reader.job(job_id)
        return job.bytes_transferred if job is not None else -1


@pytest.fixture
def scene(migrated_database: DatabaseSettings, mariadb_server: PrivateMariaDB, tmp_path: Path) -> Iterator[Scene]:
    with small_disk(tmp_path / "disk", "1m") as disk:
        if disk is None:
            pytest.skip("this user may not mount a small file system; root may")
        with RealHub(tmp_path, hub_settings(migrated_database), mariadb_server) as hub:
            with mariadb_server.connect(migrated_database.name) as connection, connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO backup_jobs (id, vm_name, backup_type, status)"
                    f" SELECT CONCAT('j', seq), 'vm', 'full', 'pending' FROM seq_0_to_{JOBS - 1}"
                )
            settings = sidecar_settings(tmp_path, hub.url, CADENCE)
            outbox = structs.replace(settings.outbox, directory=str(disk.path / "outbox"), max_bytes=4 << 20)
            with RealSidecar(tmp_path, structs.replace(settings, outbox=outbox)) as sidecar:
                yield Scene(hub, sidecar, disk)


def test_a_full_disk_is_told_to_whoever_asks_and_stops_no_news(scene: Scene, note: Note) -> None:
    """The hub is away while the disk fills, so that all has to be kept; then it comes back, then there is room."""
    hub, sidecar, disk = scene.hub, scene.sidecar, scene.disk
    hub.stop()
    kept = {job: sidecar.ask(job_id=job, status="running", current_phase="a")["ok"] for job in names(4)}
    assert all(kept.values())
    disk.fill()
    answers = {job: sidecar.ask(job_id=job, status="running", current_phase="b" * 50) for job in names(JOBS)}
    refused = {job for job, answer in answers.items() if not answer["ok"]}
    assert len(refused) > JOBS / 2, "the disk was not full"
    assert all("make room" in answers[job]["error"] for job in refused)
    sidecar.say(b"".join(b'{"job_id":"%s","bytes_transferred":7}\n' % job.encode() for job in names(JOBS)))

    hub.start()
    eventually(lambda: all(scene.bytes(job) == 7 for job in names(JOBS)))
    sidecar.say(b'{"job_id":"j39","bytes_transferred":8}\n')
    eventually(lambda: scene.bytes("j39") == 8)
    for job in set(answers) - refused:
        assert scene.hub.phases(job)[-1] == "b" * 50, "acknowledged and lost"

    disk.make_room()
    eventually(lambda: sidecar.ask(job_id="j39", current_phase="c")["ok"])
    eventually(lambda: "c" in scene.hub.phases("j39"))
    eventually(lambda: not (now := scene.outbox()).states + now.progress + now.in_memory)
    outbox = scene.outbox()
    assert (outbox.dead_letters, outbox.moved_aside) == (0, 0)
    note(asked=JOBS + 4, refused=len(refused), kept=JOBS + 4 - len(refused), delivered_from_memory=len(refused))


def test_a_sidecar_that_starts_on_a_full_disk_brings_news_all_the_same(scene: Scene, note: Note) -> None:
    hub, sidecar, disk = scene.hub, scene.sidecar, scene.disk
    hub.stop()
    assert sidecar.ask(job_id="j1", status="running", current_phase="a")["ok"]
    sidecar.kill()
    disk.fill()
    sidecar.start()
    assert sidecar.ask(hello=1)
    hub.start()
    sidecar.say(b'{"job_id":"j2","bytes_transferred":9}\n')
    eventually(lambda: scene.bytes("j2") == 9)
    eventually(lambda: "a" in scene.hub.phases("j1"))
    disk.make_room()
    eventually(lambda: sidecar.ask(job_id="j2", status="completed", bytes_transferred=10)["ok"])
    assert hub.wait_for("j2", "completed").bytes_transferred == 10
    note(starts_on_a_full_disk=1)


def names(count: int) -> list[str]:
    return [f"j{n}" for n in range(count)]
