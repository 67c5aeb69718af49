"""Whether the hub's unit may reach a database elsewhere: as shipped it has no network of its own."""

import subprocess

LACKING = (
    "database.hosts is set, but sha-daemon.service has no network: install the drop-in for a remote database "
    "(in /usr/share/sha-daemon/remote-database, see operations.md), then systemctl daemon-reload"
)
_ASK = ("systemctl", "show", "--property=PrivateNetwork", "--value", "sha-daemon.service")


def is_lacking() -> bool:
    """False also where there is no such unit, or no systemd to ask."""
    try:
        done = subprocess.run(_ASK, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == "yes"
