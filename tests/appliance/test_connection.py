"""How clients come to the hub, as docs/operations.md has it: by a tunnel that ends on loopback, or over the network."""

import json

import pytest

from tests.appliance import runbook
from tests.appliance.conftest import Pair
from tests.appliance.machines import Client, Hub

pytestmark = pytest.mark.integration


def test_a_client_reports_through_a_tunnel_that_ends_on_loopback(bare: Pair) -> None:
    """Both as they come: the tunnel is not of this project, so two socats stand for it."""
    bare.hub.node.start_unit("tunnel", "exec socat TCP-LISTEN:2222,fork,reuseaddr TCP:127.0.0.1:8082")
    bare.client.node.start_unit("tunnel", "exec socat TCP-LISTEN:8082,bind=127.0.0.1,fork,reuseaddr TCP:hub:2222")
    told(bare.client, bare.hub, "through-the-tunnel")
    bare.hub.node.sh("systemctl stop tunnel")
    bare.client.node.sh("systemctl stop tunnel")


def test_as_installed_the_hub_is_not_on_the_network(bare: Pair) -> None:
    assert "onnect to" in bare.client.node.fails("curl -sS -m3 http://hub:8082/api/v1/health")


def test_the_runbooks_drop_ins_open_it_with_tls_and_tokens(bare: Pair) -> None:
    bare.hub.open_to_network()
    assert "can be used" in bare.hub.node.run("sha-daemon", "--check")
    bare.client.connect(bare.hub)
    told(bare.client, bare.hub, "over-the-network")
    assert "over-the-network" in bare.hub.node.run("shactl", *bare.hub.reader, "jobs")


def test_whoever_has_no_token_or_does_not_trust_the_certificate_gets_nothing(bare: Pair) -> None:
    client = bare.client.node
    ask = "curl -s -m3 -o /dev/null -w '%{http_code}'"
    jobs = "https://hub:8082/api/v1/telemetry/backup"
    assert client.sh(f"{ask} --cacert /root/ca.crt {jobs}") == "401"
    assert "certificate" in client.fails(f"curl -sS -m3 {jobs}")
    assert "mpty reply" in client.fails("curl -sS -m3 http://hub:8082/api/v1/health")


def test_a_reload_lets_in_a_new_token_and_refuses_a_file_that_cannot_be_used(bare: Pair) -> None:
    hub, pid = bare.hub, bare.hub.pid()
    hub.add_token("second", "read")
    hub.node.run("systemctl", "reload", "sha-daemon")
    token = ("--token-file", "/root/second.token")
    hub.node.wait(f"shactl {' '.join(token)} jobs")
    hub.node.sh("cp -p /etc/sha-daemon/tokens /root/good; echo nonsense >> /etc/sha-daemon/tokens")
    start = hub.now()
    hub.node.run("systemctl", "reload", "sha-daemon")
    hub.wait_for_message("reload refused; what runs goes on", start)
    hub.node.run("shactl", *token, "jobs")
    hub.node.sh("cat /root/good > /etc/sha-daemon/tokens")
    assert hub.pid() == pid


@pytest.mark.parametrize("machine", ["hub", "client"])
def test_a_reload_takes_over_a_good_configuration_and_refuses_a_broken_one(bare: Pair, machine: str) -> None:
    daemon: Hub | Client = getattr(bare, machine)
    drop_in, pid, start = f"/etc/{daemon.service}/conf.d/level.toml", daemon.pid(), daemon.now()
    daemon.node.write(drop_in, '[service]\nlog_level = "debug"\n')
    daemon.node.run("systemctl", "reload", daemon.service)
    daemon.wait_for_message("log level changed", start)
    daemon.node.write(drop_in, '[service]\nlog_levle = "debug"\n')
    assert "log_levle" in daemon.node.fails(f"{daemon.service} --check")
    daemon.node.run("systemctl", "reload", daemon.service)
    daemon.wait_for_message("reload refused; what runs goes on", start)
    assert daemon.is_up()
    assert daemon.pid() == pid
    daemon.node.sh(f"rm {drop_in}; systemctl reload {daemon.service}")


def test_secrets_that_only_root_can_read_are_handed_over_by_systemd(bare: Pair) -> None:
    """Key and certificate to the hub, the token to the sidecar (LoadCredential=)."""
    hub, client = bare.hub.node, bare.client.node
    unit = "/etc/systemd/system/sha-daemon.service.d/network.conf"
    hub.sh(f"install -Dm644 /usr/share/sha-daemon/network/sha-daemon.service.conf {unit}")
    hub.sh("sed -i '/^\\[tls\\]/,/^key/d' /etc/sha-daemon/conf.d/network.toml")
    hub.sh("chown root:root /etc/sha-daemon/tls/hub.*; chmod 600 /etc/sha-daemon/tls/hub.*")
    hub.sh("systemctl daemon-reload && systemctl restart sha-daemon")
    client.sh("chown root:root /etc/sbc-daemon/hub.token; sed -i /token_file/d /etc/sbc-daemon/conf.d/hub.toml")
    bare.client.tune_unit("token", runbook.block("Who may ask and report", "ini"))
    assert bare.hub.is_up()
    bare.hub.reader += ("--certificate", "/etc/sha-daemon/tls/hub.crt")
    told(bare.client, bare.hub, "with-credentials")


def told(client: Client, hub: Hub, job_id: str) -> None:
    """A job that is reported on the client is running on the hub, and ends there."""
    hub.create_job(job_id)
    client.report(f'{{"job_id":"{job_id}","status":"running","bytes_transferred":5,"ack":1}}')
    hub.wait_for_job(job_id, "status='running' AND bytes_transferred=5")
    ended = client.report(f'{{"job_id":"{job_id}","status":"completed","ack":2}}')
    assert json.loads(ended) == {"ack": 2, "ok": True}
    hub.wait_for_job(job_id, "status='completed'")
    assert hub.job(job_id)["status"] == "completed"
