"""Backups as they come: how large, in which phases, how fast, and how they end."""

import random

from msgspec import Struct

from simulation.faults import between


class Backup(Struct, frozen=True):
    """One job as it is meant to go. `ending` is completed, failed, or dies; `pace_seconds` lies between two reports."""

    job_id: str
    begins: float
    seconds: float
    pace_seconds: float
    disk_bytes: tuple[int, ...]
    phases: tuple[str, ...]
    ending: str
    attached: bool
    by_disk: bool
    mishaps: float


def planned(chance: random.Random, job_id: str, within: float, mishaps: float) -> Backup:
    """A backup as they come, that begins within this time."""
    phases = ("snapshot", "transferring", "verifying", "finalizing")[: chance.choice((3, 3, 4))]
    disks = tuple(chance.randrange(1 << 30, 1 << 40) for _ in range(chance.choice((1, 1, 2, 3))))
    return Backup(
        job_id=job_id,
        begins=chance.uniform(0.0, within * 0.4),
        seconds=within * chance.uniform(0.15, 0.6),
        pace_seconds=max(1.0, between(chance, 1.0, 30.0)),
        disk_bytes=disks,
        phases=phases,
        ending=chance.choice(("completed", "completed", "completed", "failed", "dies")),
        attached=chance.random() < 0.7,
        by_disk=chance.random() < 0.6,
        mishaps=mishaps,
    )
