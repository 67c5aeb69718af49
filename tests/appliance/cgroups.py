"""Control groups for booted systems: the systemd inside manages what lies below its own."""

import contextlib
import os
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "pids", "cpu", "cpuacct", "blkio")
PREFIX = "appliance-"


def of_a_node(name: str) -> list[Path]:
    """The directories that a system must have to itself, in whichever layout this machine has."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT / _own("").lstrip("/") / name]
    hierarchies = [ROOT / h for h in ("systemd", "unified") if (ROOT / h).is_dir()]
    limiting = [ROOT / c / _own(c).lstrip("/") for c in CONTROLLERS if (ROOT / c).is_dir()]
    return [directory / name for directory in (*hierarchies, *limiting)]


def _own(controller: str) -> str:
    """This process's group in a hierarchy of version 1, or in the unified one for an empty name."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path
    return "/"


def remove(group: Path, seconds: float = 2.0) -> None:
    """With all below it; what was killed in it may take a moment to go."""
    end = time.monotonic() + seconds
    while group.is_dir():
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(directory).rmdir()
        if not group.is_dir() or time.monotonic() > end:
            break
        time.sleep(0.02)


def remove_left_over() -> None:
    """Of labs whose process is gone."""
    for base in {directory.parent for directory in of_a_node("any")}:
        for group in base.glob(f"{PREFIX}*"):
            if is_left_over(group):
                remove(group)


def is_left_over(path: Path) -> bool:
    """Whether it was made for a lab (`appliance-PID-...`) whose process is gone."""
    pid = path.name.split("-")[1]
    return pid.isdigit() and not Path(f"/proc/{pid}").exists()
