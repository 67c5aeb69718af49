"""The claims that the demo makes, listed before it begins: one that was never checked counts as untrue."""

from typing import Literal

from msgspec import Struct

Claim = Literal[
    "seen live",
    "copies end well",
    "copies are equal",
    "rows complete",
    "bytes are the sum",
    "death noticed",
    "death explained",
    "disks failed",
    "hub was away",
    "backup unmoved",
    "backup as fast",
    "second copies equal",
    "hub caught up",
    "bytes are the sum again",
    "daemons stop",
]

CLAIMS: dict[Claim, tuple[int, str]] = {
    "seen live": (1, "the hub showed the job while it ran"),
    "copies end well": (1, "both nbdcopy ended with exit status 0"),
    "copies are equal": (1, "both copies equal the disks byte for byte"),
    "rows complete": (1, "rows of job and disks: completed, 100 %"),
    "bytes are the sum": (1, "job's bytes = sum over its disks, not 0"),
    "death noticed": (2, "failed on the hub within 2 s of SIGKILL"),
    "death explained": (2, "its error_message says what has ended"),
    "disks failed": (2, "its disks are failed, too"),
    "hub was away": (3, "the hub was away for 15 s in the middle"),
    "backup unmoved": (3, "both nbdcopy ended with exit status 0"),
    "backup as fast": (3, "as fast as with the hub there, to 10 %"),
    "second copies equal": (3, "both copies equal the disks byte for byte"),
    "hub caught up": (3, "the hub ends up completed, 100 %"),
    "bytes are the sum again": (3, "job's bytes = sum over its disks, not 0"),
    "daemons stop": (0, "both daemons stop cleanly on SIGTERM"),
}


class Result(Struct, frozen=True):
    scene: int
    text: str
    true: bool
    figure: str


class Checks:
    def __init__(self) -> None:
        self._made: dict[Claim, Result] = {}

    def check(self, claim: Claim, true: bool, figure: str) -> Result:
        """Record what was found; `figure` says what was measured."""
        scene, text = CLAIMS[claim]
        result = self._made[claim] = Result(scene, text, true, figure)
        return result

    def all_true(self) -> bool:
        return all(result.true for result in self.results())

    def results(self) -> list[Result]:
        """One for each claim, in order, those that were not checked included."""
        return [self._made.get(claim, Result(*CLAIMS[claim], False, "not checked")) for claim in CLAIMS]
