"""Scenes that need a PID namespace of their own, as `unshare --pid --fork --mount-proc` makes one.

Each ends with status 0 if all in it was as it must be.
"""

import subprocess
import sys
from pathlib import Path

from tests.support.survival import Child, running


def reused(directory: Path) -> None:
    """A producer dies while the sidecar is away, and a stranger gets its pid: the job fails all the same."""
    with running(directory) as sidecar:
        with Child(sidecar) as child:
            child.say(job_id="j1", attach=True, status="running", ack=1)
            sidecar.end("kill")
        with stranger_as(child.pid) as stranger:
            sidecar.daemon.start()
            sidecar.until("j1", status="failed")
            assert stranger.poll() is None
            stranger.kill()


def stranger_as(pid: int) -> "subprocess.Popen[bytes]":
    """A process with this pid, which is free: the kernel gives the next one after the last."""
    for _ in range(100):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1), "ascii")
        started = subprocess.Popen(["sleep", "60"])
        if started.pid == pid:
            return started
        started.kill()
        started.wait()
    raise AssertionError(f"pid {pid} cannot be had")


def serve(directory: Path) -> None:
    """Run a sidecar until told to end."""
    with running(directory):
        print("ready", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    {"reused": reused, "serve": serve}[sys.argv[1]](Path(sys.argv[2]))
