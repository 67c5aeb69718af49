"""Somebody deletes the sidecar's state directory under a real sidecar: what was acknowledged reaches the hub."""

import shutil
import threading
from functools import partial
from pathlib import Path

import pytest

from tests.support.stage import RealHub, RealSidecar, eventually, hub, sidecar

__all__ = ["hub", "sidecar"]
pytestmark = pytest.mark.integration

PRODUCERS = 2


class Producer(threading.Thread):
    """Changes the phase of its job, one after the other, and remembers what was acknowledged."""

    def __init__(self, sidecar: RealSidecar, job_id: str) -> None:
        super().__init__()
        self.job_id = job_id
        self.acknowledged: list[str] = []
        self.refusals: list[str] = []
        self._sidecar = sidecar
        self._over = threading.Event()

    def run(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            answer = self._sidecar.ask(job_id=self.job_id, status="running", current_phase=f"phase {number}")
            if answer["ok"]:
                self.acknowledged.append(f"phase {number}")
            else:
                self.refusals.append(answer["error"])

    def stop(self) -> None:
        self._over.set()
        self.join(20)


@pytest.fixture
def producers(hub: RealHub, sidecar: RealSidecar) -> list[Producer]:
    made = [Producer(sidecar, f"j{n}") for n in range(PRODUCERS)]
    for producer in made:
        hub.create_job(producer.job_id)
    return made


def go_on(producers: list[Producer], lines: int) -> None:
    """Until each has had so many more acknowledged."""
    wanted = [len(producer.acknowledged) + lines for producer in producers]
    eventually(lambda: all(len(p.acknowledged) >= count for p, count in zip(producers, wanted, strict=True)))


def test_a_state_directory_that_is_deleted_again_and_again_costs_nothing_that_was_acknowledged(
    hub: RealHub, sidecar: RealSidecar, producers: list[Producer], tmp_path: Path
) -> None:
    hub.stop()
    for producer in producers:
        producer.start()
    for _ in range(5):
        go_on(producers, 5)
        shutil.rmtree(tmp_path / "outbox", ignore_errors=True)
    go_on(producers, 5)
    for producer in producers:
        producer.stop()
    sidecar.kill()
    sidecar.start()
    hub.start()
    for producer in producers:
        eventually(partial(arrived, hub, producer))
        assert all("deleted or moved" in refusal for refusal in producer.refusals)


def arrived(hub: RealHub, producer: Producer) -> bool:
    return set(producer.acknowledged) <= set(hub.phases(producer.job_id))
