"""Kills: two hubs on one database, a sidecar, the server and the network die again and again under load.

Every death comes at a random moment of a seeded run; moments repeat only as far as the machine's timing does.
"""

import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from sbc_daemon.config import Hub, SidecarSettings
from sbc_daemon.status import Status
from sha_daemon import migrations
from sha_daemon.config import DatabaseSettings, HubSettings
from sha_daemon.mariadb import connect
from soak import witness
from soak.conservation import violations
from soak.ledger import Ledger, job_name
from soak.link import Link
from soak.victims import DaemonVictim, LinkVictim, ServerVictim, Victim
from testbed.installation import hub_settings, sidecar_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import Daemon, clean_environment, dying_with_us

DATABASE = "soak"
HUB_ANSWER_SECONDS = 3.0
DELIVERED_WITHIN_SECONDS = 90.0
"""After the last death everything acknowledged is at the hub; the longest backoff is 30 s."""
Progress = Callable[[str], None]


class Deaths(Struct, frozen=True):
    """How many of each; of the hubs together."""

    hub: int
    sidecar: int
    server: int
    partitions: int


class Figures(Struct):
    """What was done, and what was found wrong."""

    seed: int
    deaths: Deaths
    died: dict[str, int]
    seconds: float
    delivered_after_seconds: float
    jobs: int
    lines: int
    acks: int
    samples: int
    connections: int
    slowest_ack_seconds: float
    looks: int
    wrong: list[str]

    @property
    def kills(self) -> int:
        return sum(count for name, count in self.died.items() if name != "network")


class Scene:
    """`with Scene(...) as scene: figures = scene.play()`, from one thread; `jobs` is how many there may be at most."""

    def __init__(self, directory: Path, seed: int, deaths: Deaths, jobs: int = 5_000) -> None:
        self._directory = directory
        self._seed = seed
        self._deaths = deaths
        self._jobs = jobs
        self._server = PrivateMariaDB(directory / "db", "--innodb-flush-method=nosync")
        self._database = DatabaseSettings(
            name=DATABASE, user=self._server.user, socket=str(self._server.socket), timeout_seconds=5
        )
        self._victims: list[Victim] = []
        self._sidecar_config = Path()
        self._stack = ExitStack()

    def __enter__(self) -> "Scene":
        with self._stack as building:
            self._set_up(building)
            self._stack = building.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, say: Progress = lambda _: None, seconds: float = float("inf")) -> Figures:
        """At most `seconds` of dying. AssertionError where something could not even be started again."""
        begun = time.monotonic()
        watching = witness.Witness(self._server, DATABASE)
        watching.start()
        with self._producing() as producers:
            for victim in self._victims:
                victim.haunt()
            self._until_spared(begun, seconds, say)
            ledger = producers.finish()
        delivered_after = self._until_delivered(ledger)
        watching.finish()
        found = self._judged(ledger) + watching.wrong
        died = {victim.name: 0 for victim in self._victims}
        for victim in self._victims:
            died[victim.name] += victim.died
        return Figures(
            seed=self._seed,
            deaths=self._deaths,
            died=died,
            seconds=time.monotonic() - begun,
            delivered_after_seconds=delivered_after,
            jobs=len(ledger.jobs),
            lines=ledger.lines,
            acks=ledger.acks,
            samples=sum(map(len, witness.samples(self._server, DATABASE).values())),
            connections=ledger.connections,
            slowest_ack_seconds=ledger.slowest_ack_seconds,
            looks=watching.looks,
            wrong=found,
        )

    def _set_up(self, stack: ExitStack) -> None:
        self._directory.mkdir(exist_ok=True)
        deaths = self._deaths
        self._haunted(stack, ServerVictim(self._server, self._prepare, deaths.server, (0.5, 3.0), self._rng("server")))
        ports = []
        for number in (0, 1):
            settings, handed = self._bound(stack)
            daemon = Daemon("sha-daemon", self._own(f"hub-{number}"), settings, sockets={"sha-daemon.socket": handed})
            share = deaths.hub // 2 + (number < deaths.hub % 2)
            self._haunted(stack, DaemonVictim(daemon, share, (0.05, 1.0), self._rng(f"hub {number}")))
            link = Link(int(settings.listen.address.rpartition(":")[2]))
            self._haunted(stack, LinkVictim(link, deaths.partitions // 2, (0.2, 2.0), self._rng(f"link {number}")))
            ports.append(link.port)
        self._add_sidecar(stack, ports)
        for victim in self._victims:
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
        self._victims.append(victim)
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
        self._server.new_database(DATABASE)
        link = connect(self._database, daemon=False, patient=True)
        migrations.apply(link, DATABASE, migrations.known())
        link.close()
        with self._server.connect(DATABASE) as connection, connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO backup_jobs (id, vm_name, backup_type, status)"
                " SELECT CONCAT('job-', LPAD(seq, 7, '0')), 'vm', 'full', 'pending'"
                f" FROM seq_0_to_{self._jobs - 1}"
            )

    @contextmanager
    def _producing(self) -> Iterator["_Producers"]:
        producers = _Producers(self._socket, self._directory / "ledger.json", self._seed, self._jobs)
        try:
            yield producers
        finally:
            producers.close()

    def _until_spared(self, begun: float, seconds: float, say: Progress) -> None:
        while not all(victim.spare(0.0) for victim in self._victims):
            if time.monotonic() - begun > seconds:
                for victim in self._victims:
                    victim.enough()
            for victim in self._victims:
                if victim.error is not None:
                    raise AssertionError(f"{victim.name} cannot be started again") from victim.error
            say(" ".join(f"{victim.name}={victim.died}" for victim in self._victims))
            time.sleep(0.25)

    def _until_delivered(self, ledger: Ledger) -> float:
        begun = time.monotonic()
        ended = {job_id for job_id, book in ledger.jobs.items() if book.end is not None and book.end.acknowledged}
        while time.monotonic() - begun < DELIVERED_WITHIN_SECONDS:
            if not witness.unfinished(self._server, DATABASE, ended) and not self._waiting():
                break
            time.sleep(0.1)
        return time.monotonic() - begun

    def _judged(self, ledger: Ledger) -> list[str]:
        assert all(job_name(number) in ledger.jobs for number in range(len(ledger.jobs)))
        wrong = violations(ledger, witness.rows(self._server, DATABASE), witness.samples(self._server, DATABASE))
        status = self._status()
        if self._waiting() or status.outbox.dead_letters or status.outbox.moved_aside:
            wrong.append(f"the outbox is not empty: {status.outbox}")
        return wrong

    def _waiting(self) -> int:
        outbox = self._status().outbox
        return outbox.states + outbox.progress + outbox.samples + outbox.in_memory

    def _status(self) -> Status:
        said = subprocess.run(
            [str(Path(sys.executable).with_name("sbcctl")), "status", "--json", "--config", str(self._sidecar_config)],
            capture_output=True,
            check=False,
            timeout=30,
            env=clean_environment(),
        )
        return msgspec.json.decode(said.stdout, type=Status)


class _Producers:
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

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
