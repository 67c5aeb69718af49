"""kill -9 by the hundred, under load, on real sockets, disks and MariaDB: all that was acknowledged is at the hub,
nothing else is, nothing went backwards. The scene is `soak.kills`: two hubs on one database, a network that is cut."""

import random
from pathlib import Path

import pytest

from soak.kills import Scene
from soak.stage import Deaths
from tests.faults.conftest import Note

pytestmark = [pytest.mark.integration, pytest.mark.timeout(290)]

DEATHS = Deaths(hub=100, sidecar=100, server=20, partitions=20)


def test_a_hundred_kills_of_each_daemon_and_twenty_of_the_server(tmp_path: Path, note: Note) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")  # shown where the test fails
    with Scene(tmp_path / "scene", seed, DEATHS) as scene:
        figures = scene.play()
    note(
        seed=seed,
        kills=figures.kills,
        hub=figures.died["sha-daemon"],
        sidecar=figures.died["sbc-daemon"],
        mariadbd=figures.died["mariadbd"],
        partitions=figures.died["network"],
        seconds_per_kill=figures.seconds / figures.kills,
        jobs=figures.jobs,
        lines=figures.lines,
        acks=figures.acks,
        messages=figures.samples,
        slowest_ack_seconds=figures.slowest_ack_seconds,
    )
    assert figures.wrong == []
    assert figures.died["sha-daemon"] >= DEATHS.hub
    assert figures.died["sbc-daemon"] >= DEATHS.sidecar
    assert figures.died["mariadbd"] >= DEATHS.server
    assert figures.acks > 10 * figures.kills
    assert figures.looks > 100
