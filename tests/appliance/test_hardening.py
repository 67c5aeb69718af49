"""How far the services are shut in, as the systemd that runs them judges; everything else here works under it."""

import re

import pytest

from tests.appliance.conftest import Pair
from tests.appliance.measured import Measured
from tests.support.units import NAMES

pytestmark = pytest.mark.integration
MOST = {"sha-daemon.service": 0.3, "sbc-daemon.service": 1.2, "sha-db.service": 0.5}


@pytest.mark.parametrize("service", MOST)
def test_the_running_service_is_exposed_no_more_than_it_must_be(bare: Pair, service: str, measured: Measured) -> None:
    node = bare.client.node if service.startswith("sbc") else bare.hub.node
    said = node.run("systemd-analyze", "security", "--no-pager", service)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found is not None
    measured(f"exposure of {service}", found[1])
    assert float(found[1]) <= MOST[service], said


def test_systemd_finds_no_fault_in_the_installed_units_nor_in_what_they_refer_to(bare: Pair) -> None:
    """Man pages included."""
    for node, package in ((bare.hub.node, "sha-daemon"), (bare.client.node, "sbc-daemon")):
        units = node.sh(f"dpkg -L {package} | grep -E 'systemd/system/[^/]+\\.(service|socket)$'").split()
        assert sorted(unit.rpartition("/")[2] for unit in units) == [n for n in NAMES if n.startswith(package[:4])]
        done = node.try_run("systemd-analyze", "verify", *units)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_nobody_but_root_and_the_daemon_reads_what_a_sidecar_keeps(bare: Pair) -> None:
    for user in ("backup", "nobody"):
        assert "Permission denied" in bare.client.node.fails("ls /var/lib/sbc-daemon", user=user)


def test_the_hub_can_open_no_connection_of_its_own(bare: Pair) -> None:
    """Tried from within its namespaces: there is no network but the socket that it was handed."""
    links = bare.hub.node.run("nsenter", "-t", str(bare.hub.pid()), "-n", "ip", "-br", "link")
    assert [link.split()[0] for link in links.splitlines()] == ["lo"]
