"""The simulation through the night: one virtual year, five million faults, another set of worlds for each seed."""

from simulation.runs import report
from simulation.runs import run as live
from simulation.tiers import Totals, night
from soak.parts import Run

VIRTUAL_HOURS = 365 * 24
FAULTS = 5_000_000
_TELL_EVERY = 100


def run(run: Run) -> None:
    totals = Totals()
    for number, seed in enumerate(night(run.seed), 1):
        outcome = live(seed)
        totals.add(outcome)
        figures = totals.figures()
        run.outcome.figures.update(figures)
        if outcome.violation is not None:
            run.outcome.wrong += report(outcome)
        if number % _TELL_EVERY == 0:
            run.tell()
        enough = figures["virtual_hours"] >= VIRTUAL_HOURS and figures["faults"] >= FAULTS
        if run.seconds_left <= 0 or enough or run.outcome.wrong:
            return
