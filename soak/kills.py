"""Kills: two hubs on one database, a sidecar, the server and the network die again and again under load.

Every death comes at a random moment of a seeded run; moments repeat only as far as the machine's timing does.
"""

import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from soak import witness
from soak.conservation import violations
from soak.ledger import Ledger
from soak.stage import DATABASE, Deaths, Stage

DELIVERED_WITHIN_SECONDS = 90.0
"""After the last death everything acknowledged is at the hub; the longest backoff is 30 s."""
Progress = Callable[[str], None]


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
        self._seed = seed
        self._deaths = deaths
        self._stage = Stage(directory, seed, deaths, jobs)

    def __enter__(self) -> "Scene":
        self._stage.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._stage.__exit__()

    def play(self, say: Progress = lambda _: None, seconds: float = float("inf")) -> Figures:
        """At most `seconds` of dying. AssertionError where something could not even be started again."""
        begun = time.monotonic()
        watching = witness.Witness(self._stage.server, DATABASE)
        watching.start()
        with self._stage.producers() as producers:
            for victim in self._stage.victims:
                victim.haunt()
            self._until_spared(begun, seconds, say)
            ledger = producers.finish()
        delivered_after = self._until_delivered(ledger)
        watching.finish()
        found = self._judged(ledger) + watching.wrong
        died = {victim.name: 0 for victim in self._stage.victims}
        for victim in self._stage.victims:
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
            samples=sum(map(len, witness.samples(self._stage.server, DATABASE).values())),
            connections=ledger.connections,
            slowest_ack_seconds=ledger.slowest_ack_seconds,
            looks=watching.looks,
            wrong=found,
        )

    def _until_spared(self, begun: float, seconds: float, say: Progress) -> None:
        while not all(victim.spare(0.0) for victim in self._stage.victims):
            if time.monotonic() - begun > seconds:
                for victim in self._stage.victims:
                    victim.enough()
            say(" ".join(f"{victim.name}={victim.died}" for victim in self._stage.victims))
            time.sleep(0.25)
        for victim in self._stage.victims:
            if victim.error is not None:
                raise AssertionError(f"{victim.name} cannot be started again: {victim.error}") from victim.error

    def _until_delivered(self, ledger: Ledger) -> float:
        begun = time.monotonic()
        ended = {job_id for job_id, book in ledger.jobs.items() if book.end is not None and book.end.acknowledged}
        while time.monotonic() - begun < DELIVERED_WITHIN_SECONDS:
            if not witness.unfinished(self._stage.server, DATABASE, ended) and not self._waiting():
                break
            time.sleep(0.1)
        return time.monotonic() - begun

    def _judged(self, ledger: Ledger) -> list[str]:
        wrong = violations(
            ledger, witness.rows(self._stage.server, DATABASE), witness.samples(self._stage.server, DATABASE)
        )
        status = self._stage.status()
        if self._waiting() or status.outbox.dead_letters or status.outbox.moved_aside:
            wrong.append(f"the outbox is not empty: {status.outbox}")
        return wrong

    def _waiting(self) -> int:
        outbox = self._stage.status().outbox
        return outbox.states + outbox.progress + outbox.samples + outbox.in_memory
