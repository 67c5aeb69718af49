"""apt remove keeps data and configuration; apt purge leaves nothing behind but what Debian's conventions keep."""

import pytest

from tests.appliance import roots
from tests.appliance.debs import Debs
from tests.appliance.lab import Lab
from tests.appliance.machines import DATABASE, SOCKET, Client, Hub, Machine
from tests.appliance.node import Node

pytestmark = pytest.mark.integration
CHANGES_BY_ITSELF = "/var/(lib/(dpkg|apt|mysql|systemd|private)|log|cache|tmp|backups)|/(root|tmp|usr/share/mime)"
KEPT = {"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid"}


def files(node: Node) -> set[str]:
    """Every path on its disk, but for those that any installation changes."""
    listed = node.sh(f"find / -xdev -regextype egrep -regex '({CHANGES_BY_ITSELF})' -prune -o -print")
    return set(listed.splitlines())


@pytest.fixture(scope="module", params=["hub", "sidecar"])
def machine(request: pytest.FixtureRequest, lab: Lab, debian: str) -> Machine:
    """A machine without anything of ours."""
    mask = () if request.param == "hub" else ("mariadb.service",)
    node = lab.boot(request.param, roots.root(debian), mask=mask)
    return Hub(node) if request.param == "hub" else Client(node)


def test_a_removed_package_keeps_data_and_configuration_and_a_purged_one_leaves_nothing(
    machine: Machine, current: Debs
) -> None:
    node, name = machine.node, machine.service
    before = files(node)
    deb = current.hub if name == "sha-daemon" else current.sidecar
    own = {f"/etc/{name}/conf.d/own.toml", f"/etc/systemd/system/{name}.service.d/own.conf"}

    node.install(deb)
    machine.configure("own", '[service]\nlog_level = "warning"\n')
    machine.tune_unit("own", "[Service]\nRestartSec=1\n")
    use(machine)

    node.apt("remove", name)
    assert (
        node.try_run("systemctl", "is-active", f"{name}.service", f"{name}.socket").stdout.split() == ["inactive"] * 2
    )
    left = files(node) - before
    assert own | {f"/etc/{name}/config.toml"} <= left
    assert not any(path.startswith(("/usr/lib/sha-daemon", "/usr/lib/sbc-daemon", "/usr/bin")) for path in left)
    still_there(machine)

    node.install(deb)
    assert machine.is_up()
    assert machine.unit("RestartUSec") == ["1s"]
    node.apt("purge", name)
    assert files(node) - before <= KEPT
    assert node.sh("systemctl list-units --all --no-legend 's?a-*' 'sbc-*'; systemctl --failed --no-legend") == ""
    assert node.run("systemctl", "is-system-running") == "running"
    purged(machine)


def use(machine: Machine) -> None:
    """So that it has something to keep."""
    if isinstance(machine, Hub):
        machine.node.wait("shactl db status")
        machine.create_job("kept-1")
    else:
        machine.node.sh(f"echo '{WAITING}' | nc -U -q0 -W1 {SOCKET}")


WAITING = '{"job_id":"kept-1","status":"completed","ack":1}'


def still_there(machine: Machine) -> None:
    if isinstance(machine, Hub):
        assert machine.sql("SELECT id FROM backup_jobs") == "kept-1"
    else:
        assert machine.node.sh("ls /var/lib/sbc-daemon")


def purged(machine: Machine) -> None:
    """The database is shared with other programs and stays; what a client had not delivered goes."""
    if isinstance(machine, Hub):
        assert machine.node.sh(f"mariadb -N -e 'SHOW TABLES' {DATABASE}")
    else:
        machine.node.fails("ls /var/lib/sbc-daemon")
