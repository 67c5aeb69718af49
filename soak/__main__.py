"""`python -m soak PART`: one part of the night tier for so many minutes; `all` runs every lane side by side.

Each part prints a line now and then and keeps its figures in build/soak/PART.json. The exit status is 1 where a promise
was broken; what is printed then has the seed that shows it again.
"""

import argparse
import random
import subprocess
import sys

from soak import deaths, inputs
from soak.parts import Part, Run

PARTS: dict[str, Part] = {"kills": deaths.run, "inputs": inputs.run}
LANES: tuple[tuple[str, ...], ...] = (("kills",), ("inputs",))
"""Side by side, a core for each; the parts of a lane come one after the other and share its time."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--minutes", type=float, default=180.0)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time; it is printed")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    return _all(given.minutes, seed) if given.part == "all" else _one(given.part, given.minutes, seed)


def _one(part: str, minutes: float, seed: int) -> int:
    run = Run(part, seed, minutes)
    print(f"{part}: seed {seed}, at most {minutes:g} minutes", flush=True)
    PARTS[part](run)
    run.tell("over")
    for what in run.outcome.wrong[:20]:
        print(f"{part}: WRONG: {what}", flush=True)
    return 1 if run.outcome.wrong else 0


def _all(minutes: float, seed: int) -> int:
    scripts = [
        " && ".join(f"{sys.executable} -m soak {part} --minutes={minutes / len(lane)} --seed={seed}" for part in lane)
        for lane in LANES
    ]
    lanes = [subprocess.Popen(["/bin/sh", "-c", script]) for script in scripts]
    try:
        return max(lane.wait() for lane in lanes)
    except BaseException:
        for lane in lanes:
            lane.terminate()
        raise


if __name__ == "__main__":
    sys.exit(main())
