"""What the rest relies on: a link that is cut, a disk that survives, and nothing left of a lab that was killed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.appliance import cgroups, roots
from tests.appliance.debs import PROJECT
from tests.appliance.lab import Lab, remove_left_over

pytestmark = pytest.mark.integration


def test_a_link_that_is_cut_says_nothing_and_one_that_is_healed_does(lab: Lab, debian: str) -> None:
    one, other = (lab.boot(name, roots.root(debian), mask=("mariadb.service",)) for name in ("one", "other"))
    one.start_unit("listening", "exec socat TCP-LISTEN:5000,fork,reuseaddr SYSTEM:'echo hello'")
    one.wait("ss -ltn | grep -q :5000")
    ask = "socat -T2 TCP:one:5000,connect-timeout=1 -"
    assert other.sh(ask) == "hello"
    lab.cut(one, other)
    assert "timed out" in other.fails(ask)
    lab.heal()
    assert other.sh(ask) == "hello"


def test_a_disk_survives_a_loss_of_power(lab: Lab, debian: str) -> None:
    node = lab.boot("third", roots.root(debian), mask=("mariadb.service",))
    node.sh("echo kept > /var/tmp/kept")
    node.fail_power()
    node.start()
    assert node.sh("cat /var/tmp/kept") == "kept"
    node.power_off()
    node.start()
    assert node.sh("cat /var/tmp/kept") == "kept"


BOOT = """
import sys, time
from tests.appliance import roots
from tests.appliance.lab import Lab
with Lab() as lab:
    lab.boot("node", roots.root(sys.argv[1]), mask=("mariadb.service",))
    print("booted", flush=True)
    time.sleep(60)
"""


def test_of_a_lab_that_is_killed_nothing_is_left(debian: str) -> None:
    with subprocess.Popen([sys.executable, "-c", BOOT, debian], cwd=PROJECT, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"booted\n"
        mine = f"{cgroups.PREFIX}{killed.pid}-"
        assert processes(mine)
        killed.send_signal(signal.SIGKILL)
    end = time.monotonic() + 10
    while processes(mine) and time.monotonic() < end:
        time.sleep(0.05)
    assert not processes(mine)
    assert mine not in Path("/proc/mounts").read_text()
    remove_left_over()
    assert not [path for path in Path("/tmp").iterdir() if path.name.startswith(mine)]
    found = subprocess.run(["find", "/sys/fs/cgroup", "-name", f"{mine}*"], capture_output=True, text=True, check=True)
    assert found.stdout == ""


def processes(text: str) -> list[int]:
    """Those whose command line has it."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if text in _command_line(entry)]


def _command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
