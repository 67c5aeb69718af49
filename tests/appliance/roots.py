"""Base roots: a Debian as it is before anything of ours is installed, built once and kept.

They lie outside the checkout, so that every clone shares them: $APPLIANCE_CACHE, by default
~/.cache/backup-telemetry/roots. A root is known by its Debian and its packages, so another list is another root.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUITES = ("bookworm", "trixie")
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "python3", "apt", "iproute2", "procps", "ca-certificates", "man-db"),
    *("mariadb-server", "nbdkit", "libnbd-bin", "socat", "netcat-openbsd", "curl", "openssl", "adduser"),
)
HOOKS = (
    # every copy is a machine of its own; nothing waits for a login on a console; what led to the packages goes
    'rm -f "$1/etc/machine-id" && touch "$1/etc/machine-id"',
    'ln -sf /dev/null "$1/etc/systemd/system/console-getty.service"',
    # what runs by itself once a day would run in the middle of a test
    "for t in apt-daily apt-daily-upgrade man-db dpkg-db-backup e2scrub_all fstrim; do"
    ' ln -sf /dev/null "$1/etc/systemd/system/$t.timer"; done',
    'rm -f "$1"/etc/apt/sources.list.d/* "$1"/etc/apt/apt.conf.d/99mmdebstrap && : > "$1/etc/apt/sources.list"',
)
# What of this machine's apt tells how packages are reached; the rest of its configuration is its own affair.
REACHING = re.compile(r"Acquire::(http|https|ftp|Retries|Check-Valid-Until|Check-Date|ForceIPv)", re.IGNORECASE)


def cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("APPLIANCE_CACHE") or home / "backup-telemetry" / "roots")


def place(suite: str) -> Path:
    """Where the root of this Debian is, or will be."""
    key = hashlib.sha256(repr((suite, sorted(PACKAGES), HOOKS)).encode()).hexdigest()[:12]
    return cache() / f"{suite}-{key}"


def root(suite: str) -> Path:
    """The root of this Debian, built when it is not there yet (half a minute to some minutes)."""
    there = place(suite)
    there.parent.mkdir(parents=True, exist_ok=True)
    with _alone(there.with_suffix(".lock")):
        if not there.exists():
            _say(f"building a {suite} in {there}: the first time only")
            _build(suite, there)
    return there


def _build(suite: str, there: Path) -> None:
    new = there.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    options = [f"--aptopt={line}" for line in reaching_lines()]
    hooks = [f"--customize-hook={hook}" for hook in HOOKS]
    what = ["--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    source = f"deb {mirror()} {suite} main"
    done = subprocess.run(
        ["mmdebstrap", "--quiet", *what, *options, *hooks, suite, new, source], capture_output=True, text=True
    )
    if done.returncode:
        shutil.rmtree(new, ignore_errors=True)
        raise RuntimeError(f"cannot build a {suite}: mmdebstrap said\n{done.stderr[-4000:]}")
    new.rename(there)


def mirror() -> str:
    """Where this machine's own apt has Debian from."""
    found = _debian_repositories()
    if not found:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        found = _debian_repositories()
    if not found:
        raise RuntimeError("cannot build a Debian: this machine's apt has no source of Debian's own packages")
    return found[0]


def _debian_repositories() -> list[str]:
    """Only with the lists at hand does apt know which of its sources are Debian's."""
    form = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split("|") for line in listed.stdout.splitlines()]
    return [uri for origin, label, component, uri in rows if (origin, label, component) == ("Debian", "Debian", "main")]


def reaching_lines() -> list[str]:
    """Proxies and the like, as this machine's apt has them."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return [line for line in dump.splitlines() if REACHING.match(line) and not line.endswith('"";')]


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(f"appliance: {text}", file=sys.stderr, flush=True)
