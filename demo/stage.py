"""What the scenes play on: a private MariaDB, both daemons as real processes, two disks. All of it goes at the end."""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import msgspec

from demo.backup import Backup
from demo.hub_view import HubReader, Row, rows
from sbc_daemon.config import SidecarSettings
from sha_daemon.config import DatabaseSettings, HubSettings
from testbed.disks import MIB, Image, make_image
from testbed.installation import command, hub_settings, hub_url, sidecar_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import Daemon

DATABASE = "migratekit_oma"
DISKS_MIB = (1024, 300)
ROOM_BYTES = 3 * sum(DISKS_MIB) * MIB
"""Disks, their copies, and the database."""


class NoRoom(Exception):
    """There is not enough free space for the disks and their copies."""


class Stage:
    """`with Stage() as stage:` makes a temporary directory; the rest is built in it step by step, each step once."""

    directory: Path
    server: PrivateMariaDB
    hub: Daemon
    sidecar: Daemon
    reader: HubReader
    images: list[Image]

    def __init__(self) -> None:
        self.daemons: list[Daemon] = []
        self._cleanup = ExitStack()
        self._hub_settings = HubSettings()
        self._sidecar_settings = SidecarSettings()

    def __enter__(self) -> "Stage":
        with ExitStack() as undo:
            self.directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="telemetry-demo-")))
            free = shutil.disk_usage(self.directory).free
            if free < ROOM_BYTES:
                raise NoRoom(
                    f"cannot run in {self.directory}: {free // MIB} MiB are free, {ROOM_BYTES // MIB} MiB are needed; "
                    "set TMPDIR to a directory on a larger disk"
                )
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._cleanup.close()

    def start_database(self) -> None:
        self.server = self._cleanup.enter_context(PrivateMariaDB(self.directory / "mariadb"))
        database = DatabaseSettings(name=DATABASE, user=self.server.user, socket=str(self.server.socket))
        self._hub_settings = hub_settings(database)
        self.hub = self._daemon("sha-daemon", self._hub_settings)

    def shactl(self, *arguments: str) -> str:
        """What the real command printed, run with the hub's configuration."""
        return command("shactl", "--config", str(self.hub.config_file), *arguments)

    def start_hub(self) -> None:
        self.hub.start()
        self.reader = HubReader(self._hub_settings.listen.address)

    def start_sidecar(self) -> None:
        url = hub_url(self._hub_settings)
        self._sidecar_settings = sidecar_settings(self.directory, url)
        self.sidecar = self._daemon("sbc-daemon", self._sidecar_settings)
        self.sidecar.start()

    def make_disks(self) -> None:
        self.images = [
            make_image(self.directory / f"disk{index}.raw", pieces, seed=index + 1)
            for index, pieces in enumerate(DISKS_MIB)
        ]

    def backup(self, job_id: str, seconds: float) -> Backup:
        return Backup(job_id, self.images, self.directory, seconds, self._sidecar_settings.socket.path)

    def rows(self, job_id: str) -> tuple[Row, list[Row]]:
        return rows(self.server, DATABASE, job_id)

    @property
    def hub_address(self) -> str:
        return self._hub_settings.listen.address

    def _daemon(self, program: str, settings: msgspec.Struct) -> Daemon:
        daemon = Daemon(program, self.directory, settings)
        self._cleanup.callback(daemon.close)
        self.daemons.append(daemon)
        return daemon
