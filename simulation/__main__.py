"""`python -m simulation SEED...`: live through these worlds, and say what became of them.

Without a seed, through those of the commit tier. The exit status is 1 where a promise was broken: what is printed then
is the seed, the promise, and the story of the job that it was about. `controls` for a seed: which of the negative
controls is caught, by what and where.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from simulation.controls import CONTROLS, Control
from simulation.runs import Outcome, run
from simulation.tiers import COMMIT, Totals


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("seeds", nargs="*", metavar="SEED", help="storm:N, long:N or week:N; or controls")
    given = parser.parse_args().seeds
    return _controls() if given == ["controls"] else _worlds(given or COMMIT, each=bool(given))


def _worlds(seeds: Sequence[str], *, each: bool) -> int:
    totals, began = Totals(), time.process_time()
    for seed in seeds:
        outcome = run(seed)
        totals.add(outcome)
        if each:
            _tell(outcome)
        if outcome.violation is not None:
            print("\n".join(report(outcome)))
            return 1
    spent = time.process_time() - began
    print(" ".join(f"{name}={value:,}" for name, value in totals.figures().items()), f"cpu_seconds={spent:.0f}")
    print("\n".join(f"{count:10,}  {kind}" for kind, count in totals.faults.most_common()))
    return 0


def _tell(outcome: Outcome) -> None:
    hours, faults = outcome.seconds / 3600, sum(outcome.faults.values())
    print(f"{outcome.seed}: {hours:.1f} h, {faults:,} faults, {outcome.events:,} events, digest {outcome.digest}")


def report(outcome: Outcome) -> list[str]:
    """What is printed of a broken promise."""
    broken = outcome.violation
    if broken is None:
        return []
    head = f"{outcome.seed}: BROKEN: {broken.invariant}"
    return [head, f"  at {broken.at:.3f} s, {broken.job or 'no job'}: {broken.detail}", *outcome.story]


def _controls() -> int:
    caught = [_caught(control) for control in CONTROLS]
    return 0 if all(caught) else 1


def _caught(control: Control) -> bool:
    for seed in COMMIT:
        broken = run(seed, control).violation
        if broken is not None and broken.invariant in control.caught_by:
            print(f"{control.name}: {seed}: {broken.invariant}: {broken.detail}", flush=True)
            return True
    print(f"{control.name}: NOT CAUGHT", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
