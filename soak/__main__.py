"""`python -m soak PART`: one part of the night tier for so many minutes; `all` runs every part side by side.

Each part prints a line now and then and keeps its figures in build/soak/PART.json. The exit status is 1 where a promise
was broken; what is printed then has the seed that shows it again.
"""

import argparse
import random
import subprocess
import sys

from soak import deaths, inputs, worlds
from soak.parts import Part, Run
from testbed.processes import dying_with_us

PARTS: dict[str, Part] = {"kills": deaths.run, "worlds": worlds.run, "inputs": inputs.run}


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
    """Side by side, a process each; none outlives this one."""
    command = [sys.executable, "-m", "soak"]
    options = [f"--minutes={minutes}", f"--seed={seed}"]
    running = [subprocess.Popen(dying_with_us([*command, part, *options])) for part in PARTS]
    try:
        return max([part.wait() for part in running])
    except BaseException:
        for part in running:
            part.terminate()
            part.wait()
        raise


if __name__ == "__main__":
    sys.exit(main())
