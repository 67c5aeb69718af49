"""What happens to a running daemon: it hangs, it is killed, its disk is full, its machine loses power."""

import json

import pytest

from tests.appliance.backup import Backup
from tests.appliance.conftest import Pair
from tests.appliance.machines import Client, Hub
from tests.appliance.measured import Measured

pytestmark = pytest.mark.integration
WATCHDOG = "[Service]\nWatchdogSec=3\nRestartSec=500ms\n"
KILLS = 50


@pytest.fixture(scope="module", autouse=True)
def quick(pair: Pair) -> None:
    """systemd waits a tenth of the time for a ping, and a quarter before a restart."""
    for machine in (pair.hub, pair.client):
        machine.tune_unit("quick", WATCHDOG)


@pytest.mark.parametrize("machine", ["hub", "client"])
def test_a_daemon_that_is_stopped_is_restarted_by_the_systemd_watchdog(
    pair: Pair, machine: str, measured: Measured
) -> None:
    daemon: Hub | Client = getattr(pair, machine)
    start, pid = daemon.now(), daemon.pid()
    daemon.node.run("kill", "-STOP", str(pid))
    seconds = restarted(daemon, pid)
    measured(f"{daemon.service} serves again behind SIGSTOP (WatchdogSec 3)", seconds, "s")
    daemon.wait_for_message("Watchdog timeout", start)


@pytest.mark.parametrize("machine", ["hub", "client"])
def test_of_a_daemon_whose_loop_is_blocked_the_journal_says_where_it_hung(pair: Pair, machine: str) -> None:
    """On a reload it waits for a pipe among its settings, in which nobody writes."""
    daemon: Hub | Client = getattr(pair, machine)
    pipe = f"/etc/{daemon.service}/conf.d/pipe.toml"
    daemon.tune_unit("unblock", f"[Service]\nExecStopPost=+/bin/rm -f {pipe}\n")  # the next one must not read it
    start, pid = daemon.now(), daemon.pid()
    daemon.node.sh(f"mkfifo {pipe} && kill -HUP {pid}")
    daemon.wait_for_message("Watchdog timeout", start)
    restarted(daemon, pid)
    said = "\n".join(daemon.said(start))
    assert "Watchdog timeout" in said
    assert "Fatal Python error: Aborted" in said
    assert 'settings.py", line' in said
    assert "in _read" in said


def restarted(daemon: Hub | Client, pid: int) -> float:
    """Seconds until another process of it is ready."""
    is_new = f"[ $(systemctl show -P MainPID {daemon.service}) -ne {pid} ]"
    return daemon.node.wait(f"{is_new} && [ $(systemctl show -P SubState {daemon.service}) = running ]")


def test_a_hundred_deaths_lose_no_backup(pair: Pair, measured: Measured) -> None:
    """Both daemons, fifty times each, as soon as they are ready again."""
    for machine in (pair.hub, pair.client):
        machine.tune_unit("quick", "[Service]\nRestartSec=100ms\n")
    pair.hub.create_job("killed-1")
    backup = Backup(pair.client.node, "killed-1", 256)
    pair.hub.wait_for_job("killed-1", "status='running'")
    for machine in (pair.hub, pair.client):
        machine.node.write("/root/killing", KILLING.format(service=machine.service, kills=KILLS), 0o755)
        machine.node.start_unit("killing", "/root/killing > /root/killed.new && mv /root/killed.new /root/killed")
    for machine in (pair.hub, pair.client):
        machine.node.wait("test -e /root/killed", 150)
        took = machine.node.sh("cat /root/killed")
        measured(f"{KILLS} deaths and restarts of {machine.service}", took, "s")
    assert int(pair.hub.unit("NRestarts")[0]) >= KILLS
    backup.hurry()
    assert backup.wait() == 0
    assert backup.is_whole()
    pair.hub.wait_for_job("killed-1", f"status='completed' AND bytes_transferred={backup.size}", 40)
    assert pair.client.status()["outbox"]["moved_aside"] == 0


KILLING = """#!/bin/bash
# Kills the daemon as soon as it is ready, so many times.
set -eu
for ((n = 0; n < {kills}; n++)); do
    until [ "$(systemctl show -P SubState {service})" = running ]; do sleep 0.02; done
    pid=$(systemctl show -P MainPID {service})
    kill -9 "$pid"
    until [ "$(systemctl show -P MainPID {service})" != "$pid" ]; do sleep 0.02; done
done
echo $SECONDS
"""


def test_a_full_disk_is_told_to_who_asks_and_stops_no_backup(pair: Pair) -> None:
    client, node, start = pair.client, pair.client.node, pair.client.now()
    place = "/var/lib/sbc-daemon"
    node.sh(f"systemctl stop sbc-daemon && mount -t tmpfs -o size=1M tmpfs {place} && systemctl start sbc-daemon")
    pair.hub.create_job("full-1")
    pair.hub.create_job("full-2")
    backup = Backup(node, "full-1", 128)
    node.sh(f"head -c 2M /dev/zero > {place}/filler 2>/dev/null || true")
    node.sh(f"[ $(df --output=avail {place} | tail -1) -eq 0 ]")
    answer = json.loads(client.report('{"job_id":"full-2","status":"running","ack":1}'))
    assert (answer["ack"], answer["ok"]) == (1, False)
    client.wait_for_message("outbox refuses messages", start)
    pair.hub.wait_for_job("full-1", "bytes_transferred > 0")
    backup.hurry()
    assert backup.wait() == 0
    pair.hub.wait_for_job("full-1", "status='completed'")
    pair.hub.wait_for_job("full-2", "status='running'")
    assert client.is_up()
    node.sh(f"rm {place}/filler")
    assert json.loads(client.report('{"job_id":"full-2","status":"completed","ack":2}')) == {"ack": 2, "ok": True}
    pair.hub.wait_for_job("full-2", "status='completed'")
    node.sh(f"systemctl stop sbc-daemon && umount {place} && systemctl start sbc-daemon")


def test_the_hub_loses_power_in_the_middle_and_the_backup_goes_on(pair: Pair, measured: Measured) -> None:
    pair.hub.create_job("power-1")
    backup = Backup(pair.client.node, "power-1", 256)
    pair.hub.wait_for_job("power-1", "bytes_transferred > 0")
    seq = pair.hub.job("power-1")["seq"]
    pair.hub.node.fail_power()
    pair.hub.node.start()
    measured(
        "hub hears the job again behind its boot", pair.hub.wait_for_job("power-1", f"telemetry_seq > {seq}", 40), "s"
    )
    backup.hurry()
    assert backup.wait() == 0
    assert backup.is_whole()
    pair.hub.wait_for_job("power-1", f"status='completed' AND bytes_transferred={backup.size}")


def test_the_client_loses_power_and_its_jobs_end_as_they_were_reported(pair: Pair) -> None:
    """One had ended while the hub was away, and only the client's disk knew. The other's process died with the machine:
    nobody is left to say so, and the hub's watchdog does.
    """
    for job_id in ("ended-1", "died-1"):
        pair.hub.create_job(job_id)
    Backup(pair.client.node, "died-1", 256)
    pair.hub.wait_for_job("died-1", "status='running'")
    pair.lab.cut(pair.hub.node, pair.client.node)
    line = '{"job_id":"ended-1","status":"completed","bytes_transferred":42,"ack":1}'
    assert json.loads(pair.client.report(line)) == {"ack": 1, "ok": True}
    pair.client.node.fail_power()
    pair.lab.heal()
    pair.client.node.start()
    pair.hub.wait_for_job("ended-1", "status='completed' AND bytes_transferred=42")
    pair.hub.wait_for_job("died-1", "status='failed'", 40)
    assert pair.hub.job("died-1")["stalled"]
