"""Where the kills take place: two hubs on one database, a sidecar, networks between them, and producers."""

import random
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from sbc_daemon.config import Hub, SidecarSettings
from sbc_daemon.status import Status
from sha_daemon import migrations
from sha_daemon.config import DatabaseSettings, HubSettings
from sha_daemon.mariadb import connect
from soak.ledger import Ledger
from soak.link import Link
from soak.victims import DaemonVictim, LinkVictim, ServerVictim, Victim
from testbed.installation import hub_settings, sidecar_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import Daemon, clean_environment, dying_with_us

DATABASE = "soak"
HUB_ANSWER_SECONDS = 3.0


class Deaths(Struct, frozen=True):
    """How many of each; of the hubs together."""

    hub: int
    sidecar: int
    server: int
    partitions: int


class Stage:
    """`with Stage(...) as stage:` has everything up, and stops it in order; `victims` are what may die.

    `jobs` is how many there may be at most.
    """

    def __init__(self, directory: Path, seed: int, deaths: Deaths, jobs: int) -> None:
        self.server = PrivateMariaDB(directory / "db", "--innodb-flush-method=nosync")
        self.victims: list[Victim] = []
        self._directory = directory
        self._seed = seed
        self._deaths = deaths
        self._jobs = jobs
        self._database = DatabaseSettings(
            name=DATABASE, user=self.server.user, socket=str(self.server.socket), timeout_seconds=5
        )
        self._socket = ""
        self._sidecar_config = Path()
        self._stack = ExitStack()

    def __enter__(self) -> "Stage":
        with self._stack as building:
            self._set_up(building)
            self._stack = building.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def producers(self) -> "Producers":
        """They begin now."""
        return Producers(self._socket, self._directory / "ledger.json", self._seed, self._jobs)

    def status(self) -> Status:
        """What `sbcctl status` says."""
        said = subprocess.run(
            [str(Path(sys.executable).with_name("sbcctl")), "status", "--json", "--config", str(self._sidecar_config)],
            capture_output=True,
            check=False,
            timeout=30,
            env=clean_environment(),
        )
        return msgspec.json.decode(said.stdout, type=Status)

    def _set_up(self, stack: ExitStack) -> None:
        self._directory.mkdir(exist_ok=True)
        deaths = self._deaths
        self._haunted(stack, ServerVictim(self.server, self._prepare, deaths.server, (0.5, 3.0), self._rng("server")))
        ports = []
        for number in (0, 1):
            settings, handed = self._bound(stack)
            daemon = Daemon("sha-daemon", self._own(f"hub-{number}"), settings, sockets={"sha-daemon.socket": handed})
            share = deaths.hub // 2 + (number < deaths.hub % 2)
            self._haunted(stack, DaemonVictim(daemon, share, (0.05, 1.0), self._rng(f"hub {number}")))
            link = Link(int(settings.listen.address.rpartition(":")[2]))
            self._haunted(
                stack,
                LinkVictim(
                    link,
                    deaths.partitions // 2 + (number < deaths.partitions % 2),
                    (0.2, 2.0),
                    self._rng(f"link {number}"),
                ),
            )
            ports.append(link.port)
        self._add_sidecar(stack, ports)
        for victim in self.victims:
            victim.up()

    def _add_sidecar(self, stack: ExitStack, ports: Sequence[int]) -> None:
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        directory = self._own("client")
        settings: SidecarSettings = structs.replace(
            sidecar_settings(directory, urls[0]),
            hub=Hub(url=urls[0], fallback_urls=tuple(urls[1:]), timeout_seconds=HUB_ANSWER_SECONDS),
        )
        handed = stack.enter_context(socket.socket(socket.AF_UNIX))
        handed.bind(settings.socket.path)
        handed.listen(512)
        daemon = Daemon("sbc-daemon", directory, settings, sockets={"progress": handed})
        self._socket, self._sidecar_config = settings.socket.path, daemon.config_file
        self._haunted(stack, DaemonVictim(daemon, self._deaths.sidecar, (0.05, 0.6), self._rng("sidecar")))

    def _haunted(self, stack: ExitStack, victim: Victim) -> None:
        stack.callback(victim.leave)
        self.victims.append(victim)
        if victim.name == "mariadbd":
            victim.up()

    def _bound(self, stack: ExitStack) -> tuple[HubSettings, socket.socket]:
        """The hub's settings, and its socket, which outlives it as systemd's does."""
        settings = hub_settings(self._database)
        host, _, port = settings.listen.address.rpartition(":")
        handed = stack.enter_context(socket.socket())
        handed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        handed.bind((host, int(port)))
        handed.listen(512)
        return settings, handed

    def _own(self, name: str) -> Path:
        directory = self._directory / name
        directory.mkdir()
        return directory

    def _rng(self, name: str) -> random.Random:
        return random.Random(f"{self._seed} {name}")

    def _prepare(self) -> None:
        self.server.new_database(DATABASE)
        link = connect(self._database, daemon=False, patient=True)
        migrations.apply(link, DATABASE, migrations.known())
        link.close()
        with self.server.connect(DATABASE) as connection, connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO backup_jobs (id, vm_name, backup_type, status)"
                " SELECT CONCAT('job-', LPAD(seq, 7, '0')), 'vm', 'full', 'pending'"
                f" FROM seq_0_to_{self._jobs - 1}"
            )


class Producers:
    """`with` them; `finish` within."""

    def __init__(self, path: str, ledger: Path, seed: int, jobs: int) -> None:
        self._ledger = ledger
        self._process = subprocess.Popen(
            dying_with_us(
                [sys.executable, "-m", "soak.producers", path, str(ledger), f"--seed={seed}", f"--jobs={jobs}"]
            ),
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
            env=clean_environment(),
        )

    def finish(self) -> Ledger:
        """They end what they have begun; their account."""
        self._process.communicate(timeout=120)
        assert self._process.returncode == 0
        return Ledger.read(self._ledger)

    def __enter__(self) -> "Producers":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
