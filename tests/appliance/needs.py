"""What a machine must have and allow for systems to be booted on it."""

import os
import shutil
import subprocess

PROGRAMS = ("systemd-nspawn", "mmdebstrap", "nft", "unshare", "nsenter", "ip", "dpkg-deb")


WHAT = "the story on booted Debians needs"


def missing() -> str:
    """In words; empty where all is there."""
    if os.geteuid() != 0:
        return f"{WHAT} root: it mounts disks and boots systems in namespaces"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if absent := [program for program in PROGRAMS if shutil.which(program, path=path) is None]:
        return f"{WHAT} {', '.join(absent)}: tools/setup-appliance installs them"
    tried = subprocess.run(["unshare", "--mount", "--pid", "--net", "--fork", "true"], capture_output=True, text=True)
    return f"{WHAT} to make namespaces: {tried.stderr.strip()}" if tried.returncode else ""
