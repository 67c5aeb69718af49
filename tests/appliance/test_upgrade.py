"""Both packages go to a next version and back, in the middle of three running backups."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.appliance.backup import Backup
from tests.appliance.conftest import Pair
from tests.appliance.connection import Connection
from tests.appliance.debs import Debs
from tests.appliance.machines import SOCKET
from tests.appliance.measured import Measured

pytestmark = pytest.mark.integration
JOBS = ("upgraded-1", "upgraded-2", "upgraded-3")
PRODUCER = Path(__file__).with_name("producer.py")


@pytest.fixture(scope="module")
def backups(pair: Pair) -> list[Backup]:
    for job_id in (*JOBS, "lines-1", "held-1"):
        pair.hub.create_job(job_id)
    made = [Backup(pair.client.node, job_id, 128) for job_id in JOBS]
    for job_id in JOBS:
        pair.hub.wait_for_job(job_id, "bytes_transferred > 0")
    return made


@pytest.fixture(scope="module")
def held(pair: Pair, backups: list[Backup]) -> Iterator[Connection]:
    """A producer that connects once and for all."""
    with Connection(pair.client) as producer:
        producer.write('{"job_id": "held-1", "status": "running", "ack": 0}\n')
        assert producer.answer() == {"ack": 0, "ok": True}
        yield producer


@pytest.fixture(scope="module")
def bystanders(pair: Pair) -> None:
    """One says lines to the sidecar, the other asks the hub, all the while; both count what they get."""
    pair.client.node.push(PRODUCER, "/root/producer.py")
    pair.client.node.start_unit("producer", f"exec python3 /root/producer.py {SOCKET} lines-1 /root/said")
    pair.client.node.write("/root/asking", ASKING, 0o755)
    pair.client.node.start_unit("asking", "exec /root/asking")


ASKING = """#!/bin/bash
# Asks for the hub's health on a new connection each time, until it is told to end.
ask() { curl -s -m 20 --cacert /root/ca.crt -o /dev/null -w '%{http_code}\\n' https://hub:8082/api/v1/health; }
trap 'exit 0' TERM
while :; do ask >> /root/asked || echo lost >> /root/asked; sleep 0.05; done
"""


@pytest.mark.usefixtures("backups", "bystanders")
def test_an_upgrade_keeps_the_configuration_and_every_socket(
    pair: Pair, following: Debs, held: Connection, measured: Measured
) -> None:
    before = state(pair)
    measured("upgrade of the hub", pair.hub.node.install(following.hub), "s")
    held.write('{"bytes_tra')
    measured("upgrade of the sidecar", pair.client.node.install(following.sidecar), "s")
    held.write('nsferred": 1, "ack": 1}\n')
    assert held.answer() == {"ack": 1, "ok": True}
    assert versions(pair) == [version_of(following.hub), version_of(following.sidecar)]
    assert state(pair) == before


@pytest.mark.usefixtures("backups", "bystanders")
def test_a_downgrade_keeps_them_too(pair: Pair, current: Debs) -> None:
    before = state(pair)
    pair.hub.node.install(current.hub)
    pair.client.node.install(current.sidecar)
    assert versions(pair) == [version_of(current.hub), version_of(current.sidecar)]
    assert state(pair) == before


@pytest.mark.usefixtures("bystanders")
def test_no_line_update_or_connection_was_lost_by_it(
    pair: Pair, backups: list[Backup], held: Connection, measured: Measured
) -> None:
    held.write('{"status": "completed", "bytes_transferred": 2, "ack": 2}\n')
    assert held.answer() == {"ack": 2, "ok": True}
    pair.hub.wait_for_job("held-1", "status='completed' AND bytes_transferred = 2")
    for unit in ("producer", "asking"):
        pair.client.node.run("systemctl", "stop", unit)
    said = json.loads(pair.client.node.sh("cat /root/said"))
    answers = pair.client.node.sh("sort /root/asked | uniq -c").split()
    measured("lines acknowledged / refused connections meanwhile", f"{said['acknowledged']} / {said['refused']}")
    measured("requests answered by the hub meanwhile", f"{answers[0]} of {sum(map(int, answers[::2]))}")
    assert said["acknowledged"] > 100
    assert said["refused"] == 0
    assert answers[1::2] == ["200"]
    pair.hub.wait_for_job("lines-1", f"bytes_transferred = {said['last']}")
    assert "Job stalled" not in pair.hub.sql("SELECT IFNULL(GROUP_CONCAT(error_message), '') FROM backup_jobs")


def test_the_backups_end_as_if_nothing_had_been(pair: Pair, backups: list[Backup]) -> None:
    for backup in backups:
        backup.hurry()
    for backup in backups:
        assert backup.wait() == 0
        assert backup.is_whole()
        pair.hub.wait_for_job(backup.job_id, f"status='completed' AND bytes_transferred={backup.size}")
    assert pair.client.status()["outbox"]["states"] == 0


def state(pair: Pair) -> list[str]:
    """What must be the same before and after: configuration, and the sockets that systemd holds."""
    held = {pair.hub: "sha-daemon.socket", pair.client: "sbc-daemon.socket sbc-daemon-control.socket"}
    return [
        machine.node.sh(
            f"find /etc/{machine.service} -type f -exec md5sum {{}} + | sort;"
            f"systemctl show -P ActiveEnterTimestamp {sockets}; systemctl is-enabled {sockets} {machine.service}"
        )
        for machine, sockets in held.items()
    ]


def versions(pair: Pair) -> list[str]:
    return [m.node.sh(f"dpkg-query -W -f '${{Version}}' {m.service}") for m in (pair.hub, pair.client)]


def version_of(deb: Path) -> str:
    return deb.name.split("_")[1]
