"""The writer of a kind of job: takes what waits, carries it through one transaction, answers all of it.

A batch that fails for a reason of its own is halved until the guilty update stands alone; one that met a conflict or
lost its connection is tried again, which the `seq` guard makes safe.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from sha_daemon.batch import Arrival, Outcome, apply
from sha_daemon.database import Database, DatabaseAway, DatabaseConflict, DatabaseError, RowLocked, SchemaMissing
from sha_daemon.held_rows import HeldRows
from sha_daemon.ingest_queue import IngestQueue, NotStored, Refused, Unavailable, Waiting
from sha_daemon.tally import Tally
from sha_daemon.trouble import Trouble
from sha_daemon.unwritten import Unwritten
from telemetry_common.clock import Clock
from telemetry_common.lifecycle import Pulse
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

MAX_BATCH = 500
"""Updates in one transaction: beyond a few hundred the cost per update falls no further, and latency grows."""
MAX_HEARD = 1000
"""Jobs remembered as heard through an invalid message until the next transaction."""
ATTEMPTS = 5
"""How often a transaction is tried that met a conflict or lost its connection."""
PATIENCE_SECONDS = 5.0
"""A transaction that was under way for so long is not tried again: its senders wait, and can try another time."""
RETRY_SECONDS = 0.02
"""Pause before the second attempt; it doubles."""
IDLE_SECONDS = 1.0
"""An idle writer still makes a turn this often, so that one can see that it lives."""

Heard = tuple[str, float]
"""A job that was heard without a valid update, and when (Unix seconds)."""


class Writer:
    """`queue` is this writer's own, no other writer has updates of the same jobs; the rest is shared by all.

    `published` is called with the outcomes of each transaction, right after its COMMIT.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        estimate_us: Callable[[int], int],
        queue: IngestQueue,
        trouble: Trouble,
        unwritten: Unwritten,
        pulse: Pulse,
        published: Callable[[Sequence[Outcome]], None] | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._estimate_us = estimate_us
        self._queue = queue
        self._trouble = trouble
        self._unwritten = unwritten
        self._pulse = pulse
        self._published = published
        self._held_rows = HeldRows(database)
        self._heard: dict[str, float] = {}
        self._heard_in_trouble: dict[str, float] = {}
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._under_way: tuple[list[Waiting], list[Heard]] = [], []
        self._under_way_since: float | None = None
        self.committed = 0
        self.tally = Tally()
        unwritten.under_way.append(self._has)

    @property
    def queued(self) -> int:
        return len(self._queue)

    def could_hear(self) -> bool:
        """Whether nothing waits for long."""
        since = self._under_way_since
        return since is None or self._clock.monotonic() - since <= PATIENCE_SECONDS

    def put(self, waiting: Waiting) -> bool:
        """Queue it; False, and nothing done, where there is no room."""
        if not self._queue.put(waiting):
            return False
        self.tally.accepted += 1
        self._idle.clear()
        self._work.set()
        return True

    def hear(self, job_id: str) -> None:
        """The job was heard, though what it said was not valid."""
        if len(self._heard) < MAX_HEARD:
            self._heard[job_id] = self._clock.wall()
            self._work.set()
        else:
            self._unwritten.heard([job_id], self._estimate_us(0))

    def _has(self, job_id: str) -> bool:
        """Whether the job was heard, and no transaction has said so yet."""
        return job_id in _jobs(*self._under_way) or job_id in self._heard or self._queue.has(job_id)

    async def drained(self) -> None:
        """Until everything that was queued has been answered."""
        await self._idle.wait()

    async def run(self) -> None:
        """For ever. After a failure it asks on its own, each idle turn, whether the database is back."""
        while True:
            self._pulse.beat()
            if not self._queue and not self._heard:
                self._idle.set()
                await self._wait_for_work()
                if not self._trouble:
                    continue
            batch = self._queue.take(MAX_BATCH)
            self.tally.taken(len(batch))
            heard, self._heard = list(self._heard.items()), {}
            self._under_way, self._under_way_since = (batch, heard), self._clock.monotonic()
            held = await self._held_rows.known(_jobs(batch, heard))
            await self._commit(*self._without(held, batch, heard))
            self._under_way, self._under_way_since = ([], []), None

    async def _wait_for_work(self) -> None:
        self._work.clear()
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._work.wait()
        except TimeoutError:
            return

    async def _commit(self, batch: list[Waiting], heard: list[Heard]) -> None:
        """Commit and answer, or find out who is to blame."""
        begun = self._clock.monotonic()
        try:
            outcomes = await self._transact([waiting.arrival for waiting in batch], heard)
        except (DatabaseAway, SchemaMissing) as error:
            self._trouble.met(str(error))
            self._refuse(batch, heard, Unavailable(str(error)))
        except RowLocked as error:
            held = await self._held_rows.among(_jobs(batch, heard))
            if held:
                await self._commit(*self._without(held, batch, heard))
            else:
                await self._split(batch, heard, error)
        except Exception as error:
            await self._split(batch, heard, error)
        else:
            self._trouble.over()
            self._heard, self._heard_in_trouble = self._heard_in_trouble | self._heard, {}
            self.committed += len(batch)
            self.tally.committed(outcomes, self._clock.monotonic() - begun)
            if self._published is not None:
                self._published(outcomes)
            for waiting, outcome in zip(batch, outcomes, strict=True):
                waiting.settle(outcome)

    async def _split(self, batch: list[Waiting], heard: list[Heard], error: Exception) -> None:
        if len(batch) + len(heard) > 1:
            half, half_heard = (len(batch) + 1) // 2, len(heard) // 2
            await self._commit(batch[:half], heard[:half_heard])
            await self._commit(batch[half:], heard[half_heard:])
            return
        trace = error if not isinstance(error, DatabaseError) else None
        for job_id in [waiting.arrival.job_id for waiting in batch] or [job_id for job_id, _ in heard]:
            log.error(fields("update refused", job=job_id, reason=error), exc_info=trace)
        self._refuse(batch, heard, Refused(str(error)))

    async def _transact(self, arrivals: list[Arrival], heard: list[Heard]) -> list[Outcome]:
        pause, begun = RETRY_SECONDS, self._clock.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            self._pulse.beat()
            try:
                return await self._database.run(lambda session: apply(session, arrivals, heard, self._estimate_us))
            except (DatabaseConflict, DatabaseAway):
                if attempt == ATTEMPTS or self._trouble or self._clock.monotonic() - begun > PATIENCE_SECONDS:
                    raise
                await asyncio.sleep(pause)
                pause *= 2
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _without(self, held: set[str], batch: list[Waiting], heard: list[Heard]) -> tuple[list[Waiting], list[Heard]]:
        """What is left when the updates of jobs that another program holds are refused."""
        if not held:
            return batch, heard
        refused, left = _parted(held, batch, heard)
        self._refuse(*refused, Refused("held by another program"))
        return left

    def _refuse(self, batch: list[Waiting], heard: list[Heard], answer: NotStored) -> None:
        """Nothing of these is stored; their jobs were heard all the same.

        Where the database takes nothing at all, that is written down when it is back: a hub that comes after this one
        must know of it, too.
        """
        self.tally.gave_up(len(batch), unavailable=isinstance(answer, Unavailable))
        self._unwritten.heard(_jobs(batch, heard), self._estimate_us(0))
        if isinstance(answer, Unavailable):
            now = self._clock.wall()
            for job_id in sorted(_jobs(batch, heard) - self._heard_in_trouble.keys()):
                if len(self._heard_in_trouble) < MAX_HEARD:
                    self._heard_in_trouble[job_id] = now
        for waiting in batch:
            waiting.settle(answer)


def _jobs(batch: list[Waiting], heard: list[Heard]) -> set[str]:
    return {waiting.arrival.job_id for waiting in batch} | {job_id for job_id, _ in heard}


def _parted(
    held: set[str], batch: list[Waiting], heard: list[Heard]
) -> tuple[tuple[list[Waiting], list[Heard]], tuple[list[Waiting], list[Heard]]]:
    """Those of the held jobs, and the rest."""
    those, rest = (
        (
            [waiting for waiting in batch if (waiting.arrival.job_id in held) is wanted],
            [one for one in heard if (one[0] in held) is wanted],
        )
        for wanted in (True, False)
    )
    return those, rest
