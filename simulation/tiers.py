"""Which worlds are lived through when: by `make test`, by `make soak`, and ever again once one has found a fault."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from simulation.runs import Outcome

COMMIT = (*(f"storm:{number}" for number in range(520)), *(f"long:{number}" for number in range(22)))
"""300 virtual hours and 200,000 faults in all."""
_KEPT = Path(__file__).with_name("kept_seeds.txt")
_STORMS_BETWEEN_LONGER_ONES = 20
_LONG_ONES_BETWEEN_WEEKS = 20
"""A week takes as long to live through as four hundred storms, which break several times as much."""


def kept() -> list[str]:
    """Seeds that a fault was found with. A line of the file is a seed, and behind a # what was found."""
    lines = (line.partition("#")[0].strip() for line in _KEPT.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def night(begin: int) -> Iterator[str]:
    """Without an end: mostly storms, now and then a long run, or a week. Another `begin`, other worlds."""
    number = 1_000_000 + begin * 1_000_000
    while True:
        yield from (f"storm:{number + n}" for n in range(_STORMS_BETWEEN_LONGER_ONES))
        yield f"long:{number}"
        if number % (_STORMS_BETWEEN_LONGER_ONES * _LONG_ONES_BETWEEN_WEEKS) == 0:
            yield f"week:{number}"
        number += _STORMS_BETWEEN_LONGER_ONES


class Totals:
    """What many runs came to."""

    def __init__(self) -> None:
        self.worlds = 0
        self.seconds = 0.0
        self.faults: Counter[str] = Counter()
        self.commits = 0
        self.acknowledged = 0

    def add(self, outcome: Outcome) -> None:
        self.worlds += 1
        self.seconds += outcome.seconds
        self.faults.update(outcome.faults)
        self.commits += outcome.commits
        self.acknowledged += outcome.acknowledged

    def figures(self) -> dict[str, int]:
        return {
            "worlds": self.worlds,
            "virtual_hours": round(self.seconds / 3600),
            "faults": self.faults.total(),
            "commits_judged": self.commits,
            "acknowledged": self.acknowledged,
        }
