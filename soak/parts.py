"""What a part of the soak is given and gives back."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct, field

BUILD = Path(__file__).resolve().parent.parent / "build" / "soak"


class Outcome(Struct):
    """`figures` are sums over the whole run; `wrong` is empty where every promise held; `command` runs it again."""

    part: str
    seed: int
    command: str
    figures: dict[str, float] = field(default_factory=dict)
    minutes: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def add(self, **figures: float) -> None:
        for name, value in figures.items():
            self.figures[name] = self.figures.get(name, 0) + value

    def greatest(self, name: str, value: float) -> None:
        self.figures[name] = max(self.figures.get(name, value), value)


class Run:
    """One part under way: its time, its outcome, and the file that holds what is known so far."""

    def __init__(self, part: str, seed: int, minutes: float) -> None:
        self.seed = seed
        self.outcome = Outcome(part, seed, f"python -m soak {part} --seed={seed} --minutes={minutes:g}")
        self._begun = time.monotonic()
        self._minutes = minutes
        BUILD.mkdir(parents=True, exist_ok=True)

    @property
    def seconds_left(self) -> float:
        return self._begun + 60 * self._minutes - time.monotonic()

    def tell(self, more: str = "") -> None:
        """One line on standard output, and the file."""
        self.outcome.minutes = round((time.monotonic() - self._begun) / 60, 2)
        said = " ".join(f"{name}={value:,.10g}" for name, value in self.outcome.figures.items())
        wrong = f" WRONG={len(self.outcome.wrong)}" if self.outcome.wrong else ""
        print(f"{self.outcome.part}: {self.outcome.minutes:.1f} min {said}{wrong} {more}".rstrip(), flush=True)
        file = BUILD / f"{self.outcome.part}.json"
        file.write_bytes(msgspec.json.format(msgspec.json.encode(self.outcome)) + b"\n")


Part = Callable[[Run], None]
"""Runs until its number is reached, its time is up, or something is wrong."""
