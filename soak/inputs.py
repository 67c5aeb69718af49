"""Ten million inputs: bodies at the hub's receiving code, lines at the sidecar's, in rounds with seeds of their own."""

import asyncio
import gc
import logging
import random
from collections import Counter

from soak.parts import Run
from telemetry_common.clock import SystemClock
from testbed.memory_database import MemoryDatabase
from tests.support.bad_bodies import one_round
from tests.support.found import originals
from tests.support.hub import virtual_hub
from tests.support.listening import Listening, disorder
from tests.support.memory import resident_bytes
from tests.support.mutations import Mutator

INPUTS = 10_000_000
A_ROUND = 20_000
"""Of each kind."""
SETTLED_ROUNDS = 5
MAX_GROWTH_BYTES = 64 << 20
"""Of this process, which holds hub, sidecar and their twins, after its first rounds."""


class _Errors(logging.Handler):
    """What either says at ERROR, or with a traceback."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            self.said.append(record.getMessage())


def run(run: Run) -> None:
    errors, settled = _Errors(), 0
    logging.getLogger().handlers[:] = [errors]
    seeds = random.Random(run.seed)
    for number in range(INPUTS // (2 * A_ROUND)):
        if run.seconds_left <= 0 or run.outcome.wrong:
            break
        seed = seeds.getrandbits(40)
        try:
            _lines(run, seed)
            asyncio.run(_bodies(run, seed))
        except Exception as error:  # whatever it is, its seed must not be lost
            run.outcome.wrong.append(f"round with seed {seed}: {type(error).__name__}: {error}")
        run.outcome.wrong += errors.said[:10]
        gc.collect()
        resident = resident_bytes("self")
        settled = resident if number == SETTLED_ROUNDS else settled
        if settled and resident - settled > MAX_GROWTH_BYTES:
            run.outcome.wrong.append(f"memory has grown by {resident - settled} bytes")
        run.outcome.greatest("resident_mib", resident >> 20)
        run.tell()


def _lines(run: Run, seed: int) -> None:
    life = Listening(seed)
    life.hear(A_ROUND)
    run.outcome.add(lines=A_ROUND, lines_taken=life.taken, messages=len(life.hub.posts))
    run.outcome.wrong += [f"seed {seed}: {what}" for what in disorder(life.hub.posts)[:10]]


async def _bodies(run: Run, seed: int) -> None:
    database, answers = MemoryDatabase(SystemClock()), Counter[int]()
    async with virtual_hub(database, SystemClock()) as hub:
        await one_round(hub, database, Mutator(originals(), seed), answers, A_ROUND)
    run.outcome.add(bodies=answers.total(), bodies_taken=answers[204])
