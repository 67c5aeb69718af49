"""One booted Debian: its disk, its life, and what is run on it."""

import contextlib
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.appliance import cgroups

if TYPE_CHECKING:
    from tests.appliance.lab import Lab

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root", "TERM": "dumb"}
BOOT_SECONDS = 60
# As the last thing before nspawn: become a member of the node's own control groups, given as $0.
ENTER = 'for d in $0; do echo $$ > "$d/cgroup.procs" || exit 97; done; exec "$@"'
NSPAWN = (
    *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--notify-ready=yes", "--console=pipe"),
    *("--link-journal=no", "--resolv-conf=off", "--timezone=off", "--kill-signal=SIGRTMIN+3"),
    # a network of its own that is made outside, and BPF, without which IPAddressDeny= of a unit does nothing
    *("--capability=CAP_NET_ADMIN,CAP_BPF", "--system-call-filter=bpf"),
)
SETTINGS = tuple(f"--setenv={name}={value}" for name, value in ENVIRONMENT.items())
UNIT = ("systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--service-type=exec", *SETTINGS)


class CommandFailed(AssertionError):
    """A command on a node ended with another status than 0; the text has both and what it printed."""


class Node:
    """Made by `Lab.boot`."""

    def __init__(self, lab: "Lab", name: str, address: str) -> None:
        self.lab, self.name, self.address = lab, name, address
        self.cable = f"v-{name}"
        self.disk = lab.work / name / "root"  # as the lab sees it
        self.console = lab.state / f"{name}.console"
        self._groups = cgroups.of_a_node(f"{lab.state.name}-{name}")
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    # ---- life

    def create(self, root: Path, mask: tuple[str, ...]) -> None:
        """Disk and cable: what is written goes to an upper layer of its own."""
        upper, work = self.disk.parent / "up", self.disk.parent / "wk"
        self.lab.host("mkdir", "-p", upper, work, self.disk)
        layers = f"lowerdir={root},upperdir={upper},workdir={work}"
        self.lab.host("mount", "-t", "overlay", "overlay", "-o", layers, self.disk)
        self.write("/etc/hostname", f"{self.name}\n")
        self.write("/etc/resolv.conf", "")
        for unit in mask:
            self.lab.host("ln", "-sf", "/dev/null", f"{self.disk}/etc/systemd/system/{unit}")
        self.lab.host("ip", "netns", "add", self.name)
        self.lab.host(
            *("ip", "link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.name),
        )
        self.lab.host("ip", "link", "set", self.cable, "master", "br0", "up")
        for command in (f"addr add {self.address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            self.lab.host("ip", "-n", self.name, *command.split())

    def start(self) -> None:
        """Boot; returns when systemd inside says that its start-up jobs are done."""
        for group in self._groups:
            group.mkdir(parents=True, exist_ok=True)
        told = self.lab.state / f"{self.name}.notify"
        told.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear, self.console.open("ab") as console:
            ear.bind(str(told))
            ear.settimeout(0.25)
            place = [f"--directory={self.disk}", f"--machine={self.name}"]
            network = f"--network-namespace-path=/run/netns/{self.name}"
            spawn = [*NSPAWN, *place, network, "--boot"]
            self._process = subprocess.Popen(
                self.lab.argv("sh", "-c", ENTER, " ".join(map(str, self._groups)), *spawn),
                env={**ENVIRONMENT, "NOTIFY_SOCKET": str(told), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
            self._wait_for_boot(ear, self._process)

    def _wait_for_boot(self, ear: socket.socket, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + BOOT_SECONDS
        while True:
            if process.poll() is not None or time.monotonic() > end:
                said = "\n".join(self.console.read_text(errors="replace").splitlines()[-40:])
                raise RuntimeError(f"{self.name} did not boot (nspawn: {process.returncode})\n{said}")
            with contextlib.suppress(TimeoutError):
                for line in ear.recv(4096).decode().splitlines():
                    if line.startswith("X_NSPAWN_LEADER_PID="):
                        self._leader = int(line.split("=")[1])
                    if line == "READY=1":
                        return

    def power_off(self) -> None:
        """As the button does: systemd inside stops everything in order."""
        self._end(signal.SIGRTMIN + 4)

    def fail_power(self) -> None:
        """No process gets to run another instruction; the disk stays as it is. `start` boots it again."""
        self._end(signal.SIGKILL)

    def _end(self, how: int) -> None:
        self.lab.host("kill", f"-{int(how)}", self._leader)
        self.reap(60)

    def reap(self, seconds: float = 10) -> None:
        """The process that held it, once it is gone, and its control groups."""
        if self._process is not None:
            self._process.wait(seconds)
        for group in self._groups:
            cgroups.remove(group)

    # ---- work

    def argv(self, *command: str) -> list[str]:
        """A command line that runs a command inside, as no part of any unit."""
        return self.lab.argv("nsenter", "-t", self._leader, "-a", "--", *command)

    def unit_argv(self, *command: str, user: str = "", name: str = "") -> list[str]:
        """The same as a transient unit: its status, input and output are the command's."""
        options = [f"--uid={user}"] if user else []
        options += [f"--unit={name}"] if name else []
        # systemd would expand ${NAME} in them
        return self.argv(*UNIT, *options, "--", *(part.replace("$", "$$") for part in command))

    def try_run(self, *command: str, user: str = "", stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command inside as a transient unit; also when it fails."""
        argv = self.unit_argv(*command, user=user)
        return subprocess.run(argv, env=ENVIRONMENT, input=stdin, capture_output=True, text=True, check=False)

    def run(self, *command: str, user: str = "", stdin: str = "") -> str:
        """What it printed. Raises CommandFailed."""
        done = self.try_run(*command, user=user, stdin=stdin)
        if done.returncode:
            said = f"{done.stdout}{done.stderr}"
            raise CommandFailed(f"{self.name}: {shlex.join(command)}: exit {done.returncode}\n{said}")
        return done.stdout.strip()

    def sh(self, script: str, *, user: str = "", stdin: str = "") -> str:
        return self.run("bash", "-euo", "pipefail", "-c", script, user=user, stdin=stdin)

    def fails(self, script: str, *, user: str = "") -> str:
        """What it said on failing; that it fails is expected."""
        done = self.try_run("bash", "-euo", "pipefail", "-c", script, user=user)
        assert done.returncode, f"{self.name}: {script}: did not fail\n{done.stdout}{done.stderr}"
        return (done.stdout + done.stderr).strip()

    def start_unit(self, name: str, script: str, *, user: str = "") -> None:
        """Start a script in the background, as the unit `name`.service."""
        options = [f"--uid={user}"] if user else []
        command = ["systemd-run", "--quiet", f"--unit={name}", *options, *SETTINGS, "--", "bash", "-c"]
        self.run(*command, script.replace("$", "$$"))

    def wait(self, script: str, seconds: float = 20, *, user: str = "") -> float:
        """Until the script succeeds, looked at inside; how many seconds it took."""
        begun = time.monotonic()
        again = f"until {{ {script}\n}}; do [ $SECONDS -lt {int(seconds)} ] || exit 1; sleep 0.1; done"
        done = self.try_run("bash", "-c", again, user=user)
        if done.returncode:
            raise CommandFailed(
                f"{self.name}: after {seconds} s still not: {script}\n{(done.stdout + done.stderr)[-500:]}"
            )
        return time.monotonic() - begun

    def journal(self, unit: str) -> str:
        """What a unit said since the boot, and what systemd said of it."""
        return self.run("journalctl", "-b", "--no-pager", "-o", "short-precise", "-u", unit)

    # ---- files

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        script = 'mkdir -p "$(dirname "$1")" && rm -f "$1" && cat > "$1" && chmod "$2" "$1"'
        self.lab.host("sh", "-c", script, "sh", f"{self.disk}{path}", f"{mode:o}", stdin=text.encode())

    def push(self, source: Path, path: str) -> None:
        script = 'mkdir -p "$(dirname "$2")" && cp "$1" "$2"'
        self.lab.host("sh", "-c", script, "sh", source.resolve(), f"{self.disk}{path}")

    def install(self, *debs: Path) -> float:
        """apt install of packages, without a network, as an operator does it; the seconds it took."""
        places = [f"/var/tmp/{deb.name}" for deb in debs]
        for deb, place in zip(debs, places, strict=True):
            self.push(deb, place)
        begun = time.monotonic()
        self.apt("install", "--no-install-recommends", "--allow-downgrades", *places)
        return time.monotonic() - begun

    def apt(self, *arguments: str) -> str:
        return self.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q", "-oDpkg::Use-Pty=0", *arguments)
