"""What a run is made of, from its seed: how long it lasts, who backs up what, and what kind of weather it has.

A seed is `kind:number`. A storm lasts half an hour and breaks something every few seconds; a long run has outages of
hours, and a week has one of days.
"""

import random
from collections.abc import Mapping

from msgspec import Struct

from simulation import database, disk, network
from simulation.faults import between

HOUR = 3600.0
KINDS = ("storm", "long", "week")
_SECONDS = {"storm": (900.0, 2100.0), "long": (2 * HOUR, 10 * HOUR), "week": (60 * HOUR, 200 * HOUR)}
_MEAN_CALM = {"storm": (6.0, 60.0), "long": (300.0, 3000.0), "week": (3 * HOUR, 20 * HOUR)}
_LONGEST_OUTAGE = {"storm": 600.0, "long": 3 * HOUR, "week": 168 * HOUR}
_BACKUPS = {"storm": (3, 8), "long": (2, 5), "week": (2, 5)}


class Plan(Struct, frozen=True):
    """`rates` by kind of fault; `calm_seconds` is the mean time between two events of the weather.

    `weather` are the weights of those events; `late_jobs` is the share of jobs that the hub learns of late.
    """

    seed: str
    kind: str
    seconds: float
    backups: int
    mishaps: float
    late_jobs: float
    hubs: int
    max_outbox_bytes: int
    rates: Mapping[str, float]
    calm_seconds: float
    longest_outage_seconds: float
    weather: Mapping[str, float]


WEATHER: Mapping[str, float] = {
    "hub killed": 3.0,
    "hub restarted": 1.0,
    "sidecar killed": 3.0,
    "sidecar restarted": 1.0,
    "power cut": 2.0,
    "database killed": 2.0,
    "network shut": 3.0,
    "disk fails": 2.0,
    "clock stepped": 2.0,
    "row held": 1.0,
    "row refused": 1.0,
    "job cancelled": 0.7,
    "outbox lost": 0.3,
    "stray message": 2.0,
}


def plan(seed: str) -> Plan:
    """Raises ValueError for what is no seed."""
    kind, _, number = seed.partition(":")
    if kind not in KINDS or not number.isdigit():
        raise ValueError(f"a seed is one of {', '.join(KINDS)} with a number behind it, as in storm:17; not {seed!r}")
    chance = random.Random(f"{seed}/plan")
    rough = {kind: chance.choice((0.0, 0.3, 1.0, 1.0, 2.0)) for kind in WEATHER}
    return Plan(
        seed=seed,
        kind=kind,
        seconds=chance.uniform(*_SECONDS[kind]),
        backups=chance.randint(*_BACKUPS[kind]),
        mishaps=chance.choice((0.0, 0.01, 0.05)),
        late_jobs=chance.choice((0.0, 0.2, 0.5)),
        hubs=chance.choice((1, 1, 1, 2)),
        max_outbox_bytes=chance.choice((64 << 20, 64 << 20, 24 << 10)),
        rates=_rates(chance, 1.0 if kind == "storm" else 0.1),
        calm_seconds=between(chance, *_MEAN_CALM[kind]),
        longest_outage_seconds=_LONGEST_OUTAGE[kind],
        weather={kind: weight * rough[kind] for kind, weight in WEATHER.items()},
    )


def _rates(chance: random.Random, severity: float) -> dict[str, float]:
    """Of the faults that strike single requests, transactions and writes."""
    network_share = chance.choice((0.0, 0.2, 0.5, 0.7)) * severity
    database_share = chance.choice((0.0, 0.1, 0.3, 0.4)) * severity
    disk_share = chance.choice((0.0, 0.0, 0.05, 0.2)) * severity
    shares = ((network.KINDS, network_share), (database.KINDS, database_share), (disk.KINDS, disk_share))
    rates: dict[str, float] = {}
    for kinds, share in shares:
        weights = [chance.random() for _ in kinds]
        rates |= {kind: share * weight / sum(weights) for kind, weight in zip(kinds, weights, strict=True)}
    return rates
