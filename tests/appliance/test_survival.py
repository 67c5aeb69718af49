"""Producers do not notice that their sidecar is restarted or dies: systemd keeps their connections for the next one."""

import json

import pytest

from tests.appliance.conftest import Pair
from tests.appliance.connection import Connection
from tests.appliance.machines import Client

pytestmark = pytest.mark.integration


HOW = {"restarted": "systemctl restart sbc-daemon", "killed": "kill -9 $(systemctl show -P MainPID sbc-daemon)"}


@pytest.mark.parametrize("how", HOW)
def test_a_line_that_is_half_written_when_the_sidecar_goes_is_taken_when_it_is_back(pair: Pair, how: str) -> None:
    job_id = f"half-{how}"
    pair.hub.create_job(job_id)
    with Connection(pair.client) as producer:
        producer.write(json.dumps({"job_id": job_id, "status": "running", "ack": 1}) + "\n")
        assert producer.answer() == {"ack": 1, "ok": True}
        producer.write('{"bytes_transferred": 4')
        gone(pair.client, how)
        producer.write('2, "ack": 2}\n')
        assert producer.answer() == {"ack": 2, "ok": True}
    pair.hub.wait_for_job(job_id, "bytes_transferred = 42")


def test_an_end_that_was_written_and_hung_up_behind_while_nobody_read_is_heard(pair: Pair) -> None:
    """The sidecar stands still when it is written, and goes without having read it."""
    job_id = "hung-up"
    pair.hub.create_job(job_id)
    with Connection(pair.client) as producer:
        producer.write(json.dumps({"job_id": job_id, "status": "running", "ack": 1}) + "\n")
        assert producer.answer() == {"ack": 1, "ok": True}
        pair.client.node.sh("systemctl kill -s STOP sbc-daemon")
        producer.write('{"status": "completed", "bytes_transferred": 7}\n')
        producer.hang_up()
    gone(pair.client, "killed")
    pair.hub.wait_for_job(job_id, "status = 'completed' AND bytes_transferred = 7")


def gone(client: Client, how: str) -> None:
    """And back: another process of it runs."""
    pid = client.pid()
    client.node.sh(HOW[how])
    new = f"[ $(systemctl show -P MainPID sbc-daemon) -ne {pid} ]"
    client.node.wait(f"{new} && [ $(systemctl show -P SubState sbc-daemon) = running ]")
