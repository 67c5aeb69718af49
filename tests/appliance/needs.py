"""What a machine must have and allow for systems to be booted on it."""

import os
import shutil

PROGRAMS = ("systemd-nspawn", "mmdebstrap", "nft", "unshare", "nsenter", "ip", "dpkg-deb")


def missing() -> str:
    """In words; empty where all is there."""
    if os.geteuid() != 0:
        return "the story on booted Debians needs root: it mounts disks and boots systems in namespaces"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    return f"the story on booted Debians needs {', '.join(absent)}: `make setup-appliance`" if absent else ""
