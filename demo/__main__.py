"""`make demo`: prepare, three backups, and a table of what was claimed and found.

Exit status 0 only if all of it was checked and true; 130 when interrupted.
Everything that was started is ended and everything that was written is removed, in any case.
"""

import signal
import sys
from collections.abc import Callable
from types import FrameType

from demo.checks import Checks
from demo.scenes import AWAY_SECONDS, WHOLE_SECONDS, Scenes
from demo.screen import Screen
from demo.stage import DISKS_MIB, NoRoom, Stage
from testbed.disks import DiskFailed
from testbed.installation import CommandFailed
from testbed.mariadb import ServerFailed
from testbed.processes import DaemonFailed

INTERRUPTED = 130
CANNOT_GO_ON = (NoRoom, DiskFailed, CommandFailed, ServerFailed, DaemonFailed)


def main() -> int:
    _on_interruption(_interrupt)
    screen, checks = Screen(), Checks()
    try:
        _play(screen, checks)
    except KeyboardInterrupt:
        screen.trouble("demo: interrupted; everything that was started is ended")
        return INTERRUPTED
    except CANNOT_GO_ON as error:
        screen.trouble(f"demo: {error}")
        return 1
    screen.heading("What was claimed, and what was found", "")
    screen.table(checks.results())
    good = checks.all_true()
    screen.verdict(good, "all of it is true" if good else "not all of it is true")
    return 0 if good else 1


def _play(screen: Screen, checks: Checks) -> None:
    screen.title("Backup telemetry, end to end", "three real backups, about a minute and a quarter")
    with Stage() as stage:
        try:
            _prepare(stage, screen)
            scenes = Scenes(stage, screen, checks)
            screen.heading(
                "Scene 1: a virtual machine with two disks is backed up",
                f"{WHOLE_SECONDS + 3:.0f} s",
            )
            scenes.seen_live()
            screen.heading("Scene 2: a backup is killed half-way, with SIGKILL", "10 s")
            scenes.killed()
            screen.heading(
                f"Scene 3: the hub is away for {AWAY_SECONDS:.0f} s of a backup",
                f"{WHOLE_SECONDS + 3:.0f} s",
            )
            scenes.hub_away()
            _stop(stage, checks)
        finally:
            _on_interruption(signal.SIG_IGN)
            _explain(stage, screen, checks)


def _prepare(stage: Stage, screen: Screen) -> None:
    screen.heading("Preparing", "10 s")
    stage.start_database()
    screen.step("a private MariaDB, its own data directory and socket", f"pid {stage.server.pid}")
    stage.shactl("db", "setup")
    screen.step("$ shactl db setup", "database and user")
    stage.shactl("db", "migrate")
    screen.step("$ shactl db migrate", "all tables")
    stage.start_hub()
    screen.step(f"sha-daemon, the hub, on {stage.hub_address}", f"pid {stage.hub.pid}")
    stage.start_sidecar()
    screen.step("sbc-daemon, the sidecar, on a socket of its own", f"pid {stage.sidecar.pid}")
    stage.make_disks()
    for index, pieces in enumerate(DISKS_MIB):
        screen.step(f"disk {index}: data, zeros and holes, served by nbdkit", f"{pieces} MiB")


def _stop(stage: Stage, checks: Checks) -> None:
    statuses = [stage.sidecar.stop(), stage.hub.stop()]
    checks.check("daemons stop", statuses == [0, 0], "exit " + ", ".join(map(str, statuses)))


def _explain(stage: Stage, screen: Screen, checks: Checks) -> None:
    """The daemons' last words, where something is not as claimed and nobody interrupted."""
    if checks.all_true() or isinstance(sys.exception(), KeyboardInterrupt):
        return
    for daemon in stage.daemons:
        screen.trouble(f"\nlast lines of {daemon.program}:\n{daemon.last_lines()}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    """From here on it only cleans up: a second Ctrl-C would leave things behind."""
    _on_interruption(signal.SIG_IGN)
    raise KeyboardInterrupt


def _on_interruption(what: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, what)


if __name__ == "__main__":
    sys.exit(main())
