"""A hub and a sidecar as they would be installed, in one temporary directory, on a database of their own."""

import subprocess
from pathlib import Path

from sbc_daemon.config import CadenceSettings, Hub, OutboxSettings, SidecarSettings, Socket
from sha_daemon.config import DatabaseSettings, HubSettings, Listen, Watchdog
from testbed.processes import clean_environment, free_port, installed


class CommandFailed(Exception):
    """A command of ours ended with another status than 0; the text has the command and what it said."""


def hub_settings(database: DatabaseSettings, watchdog: Watchdog | None = None) -> HubSettings:
    """A hub on a free port of 127.0.0.1."""
    return HubSettings(
        listen=Listen(address=f"127.0.0.1:{free_port()}"), database=database, watchdog=watchdog or Watchdog()
    )


def hub_url(hub: HubSettings) -> str:
    return f"http://{hub.listen.address}"


def sidecar_settings(directory: Path, url: str, cadence: CadenceSettings | None = None) -> SidecarSettings:
    """A sidecar with its sockets and its outbox in `directory`, reporting to the hub at `url`."""
    outbox = directory / "outbox"
    outbox.mkdir(mode=0o700, exist_ok=True)
    return SidecarSettings(
        hub=Hub(url=url),
        socket=Socket(path=str(directory / "progress.sock"), control=str(directory / "control.sock")),
        cadence=cadence or CadenceSettings(),
        outbox=OutboxSettings(directory=str(outbox)),
    )


def command(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run one of our commands to its end; what it printed. Raises CommandFailed."""
    program, *rest = arguments
    done = subprocess.run(
        [installed(program), *rest],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(environment),
        timeout=60,
    )
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(arguments)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
