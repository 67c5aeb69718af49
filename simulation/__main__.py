"""`python -m simulation SEED...`: live through these worlds, and say what became of them.

Without a seed, through those of the commit tier, on all cores. The exit status is 1 where a promise was broken: what is
printed then is the seed, the promise, and the story of the job that it was about. `controls` for a seed: which of the
negative controls is caught, by what and where.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from simulation.controls import CONTROLS, Control
from simulation.plans import plan
from simulation.runs import Outcome, report, run
from simulation.tiers import COMMIT, Totals

_TELL_EVERY = 50
_WORLDS_AT_ONCE = 4
"""Handed to a process together."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m simulation", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("seeds", nargs="*", metavar="SEED", help="storm:N, long:N or week:N; or controls")
    given = parser.parse_args().seeds
    if given == ["controls"]:
        return _controls()
    try:
        for seed in given:
            plan(seed)
    except ValueError as error:
        parser.error(str(error))
    return _one_by_one(given) if given else _all()


def _one_by_one(seeds: Sequence[str]) -> int:
    for seed in seeds:
        outcome = run(seed)
        hours, faults = outcome.seconds / 3600, sum(outcome.faults.values())
        print(f"{seed}: {hours:.1f} h, {faults:,} faults, {outcome.events:,} events, digest {outcome.digest}")
        if outcome.violation is not None:
            print("\n".join(report(outcome)))
            return 1
    return 0


def _all() -> int:
    totals = Totals()
    for number, outcome in enumerate(_side_by_side(COMMIT), 1):
        totals.add(outcome)
        if outcome.violation is not None:
            print("\n".join(report(outcome)))
            return 1
        if number % _TELL_EVERY == 0:
            print(f"{number} of {len(COMMIT)} worlds", flush=True)
    print(" ".join(f"{name}={value:,}" for name, value in totals.figures().items()))
    print("\n".join(f"{count:10,}  {kind}" for kind, count in totals.faults.most_common()))
    return 0


def _side_by_side(seeds: Sequence[str]) -> Iterator[Outcome]:
    """In their order, whichever is done first."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        yield from pool.map(run, seeds, chunksize=_WORLDS_AT_ONCE)


def _controls() -> int:
    caught = [_caught(control) for control in CONTROLS]
    return 0 if all(caught) else 1


def _caught(control: Control) -> bool:
    for seed in (control.seed, *COMMIT):
        broken = run(seed, control).violation
        if broken is not None and broken.invariant in control.caught_by:
            print(f"{control.name}: {seed}: {broken.invariant}: {broken.detail}", flush=True)
            return True
    print(f"{control.name}: NOT CAUGHT", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
