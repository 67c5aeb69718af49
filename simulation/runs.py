"""One run: a world lived through from its seed, and what became of it."""

import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager

from msgspec import Struct

from simulation.controls import NONE, Control
from simulation.loop import VirtualLoop
from simulation.loop import run as run_loop
from simulation.plans import Plan, plan
from simulation.story import Violation
from simulation.world import World

_LOGGERS = ("sha_daemon", "sbc_daemon", "telemetry_common", "asyncio", "aiohttp")


class Outcome(Struct, frozen=True, kw_only=True):
    """Of one run. `digest` is that of every event; `story` is the job's that a violation was about."""

    seed: str
    digest: str
    seconds: float
    faults: Mapping[str, int]
    events: int
    commits: int
    acknowledged: int
    violation: Violation | None
    story: list[str]


Besides = Callable[[World], Coroutine[None, None, None]]


def run(seed: str, control: Control = NONE) -> Outcome:
    """Live through the world of this seed. Raises ValueError for what is no seed."""
    return run_plan(plan(seed), control)


def run_plan(plan: Plan, control: Control = NONE, besides: Besides | None = None) -> Outcome:
    """`besides` is what else happens in this world."""

    async def main(loop: VirtualLoop) -> World:
        world = World(loop, plan, control)
        if besides is not None:
            loop.spawn(besides(world), "besides")
        await world.live()
        return world

    with _quiet(), control.applied():
        world = run_loop(main)
    violation = world.story.violation
    return Outcome(
        seed=plan.seed,
        digest=world.story.digest(),
        seconds=world.loop.now,
        faults=Counter(world.faults.counts),
        events=world.story.events,
        commits=world.judge.checks,
        acknowledged=world.truth.acknowledgements,
        violation=violation,
        story=world.story.of(violation.job) if violation else [],
    )


def report(outcome: Outcome) -> list[str]:
    """What is printed of a broken promise."""
    broken = outcome.violation
    if broken is None:
        return []
    head = f"{outcome.seed}: BROKEN: {broken.invariant}"
    return [head, f"  at {broken.at:.3f} s, {broken.job or 'no job'}: {broken.detail}", *outcome.story]


@contextmanager
def _quiet() -> Iterator[None]:
    """The daemons' journals are of no interest: the story has what matters of them."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.propagate = propagate
