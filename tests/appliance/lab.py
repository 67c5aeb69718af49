"""A private world for booted systems: mounts, processes and network of its own, gone with the process that made it.

A lab is one *holder*: PID 1 of a PID namespace, with a mount and a network namespace of its own. Every overlay, bridge,
cable and system lives in those. The holder ends when the pipe from this process closes, which the kernel does however
this process ends; the kernel then kills every process in there and drops every mount and interface.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from tests.appliance import cgroups
from tests.appliance.node import Node

SUBNET = "10.99.0"
# PID 1 of the lab: makes room for the systems' disks, then waits for the end of the pipe.
HOLDER = r"""
import os, signal, subprocess, sys
os.makedirs("/run/netns", exist_ok=True)
os.makedirs("/run/systemd", exist_ok=True)
for where, options in ((sys.argv[1], "size=8G,mode=755"), ("/run/netns", "mode=755"), ("/run/systemd", "mode=755")):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "appliance", where], check=True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(ignored, signal.SIG_IGN)
os.write(1, b"ok\n")
while os.read(0, 4096):
    pass
os._exit(0)
"""
NAMESPACES = ("--mount", "--propagation", "private", "--pid", "--net", "--fork", "--kill-child=SIGKILL", "--mount-proc")


class Lab:
    """Systems on one network, which can be cut."""

    def __init__(self) -> None:
        remove_left_over()
        self.nodes: dict[str, Node] = {}
        self.state = Path(tempfile.mkdtemp(prefix=f"{cgroups.PREFIX}{os.getpid()}-"))
        self.work = self.state / "work"  # a tmpfs, seen only inside the lab
        self.work.mkdir()
        python = [sys.executable, "-ISc", HOLDER, str(self.work)]
        self._holder = subprocess.Popen(
            ["unshare", *NAMESPACES, "--", *python],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=_die_with_parent,
        )
        try:
            self._pid = self._first_process()
            for command in ("link set lo up", "link add br0 type bridge", f"addr add {SUBNET}.254/24 dev br0"):
                self.host("ip", *command.split())
            self.host("ip", "link", "set", "br0", "up")
        except BaseException:
            self.close()
            raise

    def _first_process(self) -> int:
        """The holder's pid as this machine counts."""
        if self._holder.stdout is None or self._holder.stdout.readline() != b"ok\n":
            raise RuntimeError("the lab's holder did not start")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text()
        return int(children.split()[0])

    def __enter__(self) -> "Lab":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is left: no process, mount, interface, control group or file."""
        for pipe in (self._holder.stdin, self._holder.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._holder.wait(10)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.wait()
        for node in self.nodes.values():
            node.reap()
        shutil.rmtree(self.state, ignore_errors=True)

    def argv(self, *command: object) -> list[str]:
        return ["nsenter", "-t", str(self._pid), "-m", "-n", "-p", "--", *map(str, command)]

    def host(self, *command: object, stdin: bytes | None = None, check: bool = True) -> bytes:
        """What a command of this machine prints, run inside the lab's namespaces."""
        said = subprocess.run(self.argv(*command), input=stdin or b"", capture_output=True, check=False)
        if check and said.returncode:
            raise RuntimeError(f"{command} ended with {said.returncode}: {said.stderr.decode(errors='replace')}")
        return said.stdout

    def boot(self, name: str, root: Path, *, mask: tuple[str, ...] = ()) -> Node:
        """A fresh copy of a base root, booted until systemd inside says that its start is done.

        `mask` names units that stay off.
        """
        node = Node(self, name, f"{SUBNET}.{len(self.nodes) + 1}")
        self.nodes[name] = node
        node.create(root, mask)
        self._introduce()
        node.start()
        return node

    def _introduce(self) -> None:
        """Everybody knows everybody's name."""
        hosts = "127.0.0.1 localhost\n" + "".join(f"{node.address} {node.name}\n" for node in self.nodes.values())
        for node in self.nodes.values():
            node.write("/etc/hosts", hosts)

    def cut(self, one: Node, other: Node) -> None:
        """Frames between the two are dropped without a word: no reset, no loss of carrier."""
        rules = "add table bridge lab; add chain bridge lab cuts { type filter hook forward priority 0; };"
        for sender, receiver in ((one, other), (other, one)):
            rules += f"add rule bridge lab cuts iifname {sender.cable} oifname {receiver.cable} drop;"
        self.host("nft", rules)

    def heal(self) -> None:
        self.host("nft", "delete table bridge lab", check=False)


def remove_left_over() -> None:
    """What the kernel does not remove of a lab that was killed: a directory with logs, empty control groups."""
    for directory in Path(tempfile.gettempdir()).glob(f"{cgroups.PREFIX}*-*"):
        if cgroups.is_left_over(directory):
            shutil.rmtree(directory, ignore_errors=True)
    cgroups.remove_left_over()


def _die_with_parent() -> None:
    """The belt to the pipe's braces. A Ctrl-C is for this process, which then closes the lab."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
