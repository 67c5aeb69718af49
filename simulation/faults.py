"""What is broken, how often, and how often it was. Every decision comes out of the seed, a stream for each part."""

import random
from collections import Counter
from collections.abc import Mapping

from simulation.story import Story

LONGEST_OUTAGE_SECONDS = 7 * 86_400.0


class Faults:
    """`rates` are probabilities by kind, for faults that may strike each time something is done.

    `healed`: from now on nothing is broken any more, so that what must arrive can be waited for.
    """

    def __init__(self, seed: str, rates: Mapping[str, float], story: Story) -> None:
        self.seed = seed
        self.healed = False
        self.counts: Counter[str] = Counter()
        self._story = story
        self.rates = rates

    def stream(self, name: str) -> random.Random:
        """Chance of one part of the world: what another part does leaves it alone."""
        return random.Random(f"{self.seed}/{name}")

    def note(self, kind: str, job: str = "", more: object = "") -> None:
        """One was injected."""
        self.counts[kind] += 1
        self._story.note(kind, job, more)


class Dice:
    """One of several faults, or none: a single throw for all of them."""

    def __init__(self, faults: Faults, name: str, kinds: tuple[str, ...]) -> None:
        self._faults = faults
        self.chance = faults.stream(name)
        rates = {kind: faults.rates.get(kind, 0.0) for kind in kinds}
        self._sides = [(kind, rate) for kind, rate in rates.items() if rate > 0]
        self._total = sum(rate for _, rate in self._sides)

    def throw(self) -> str:
        """Empty for no fault."""
        if self._faults.healed or not self._sides:
            return ""
        thrown = self.chance.random()
        if thrown >= self._total:
            return ""
        for kind, rate in self._sides:
            if thrown < rate:
                return kind
            thrown -= rate
        return self._sides[-1][0]


def between(chance: random.Random, least: float, most: float) -> float:
    """A length of time for which every order of magnitude is equally likely."""
    return float(least * (most / least) ** chance.random())
