"""Group commit: updates that wait together are committed together, and each sender is answered after the COMMIT.

One writer takes all that is queued (up to MAX_BATCH), carries it through one transaction, then answers all of it. The
queue is bounded. A sender that hangs up loses only its answer: the update is in the queue already.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from sha_daemon.batch import Arrival, Outcome, apply
from sha_daemon.database import Database, DatabaseAway, DatabaseConflict, DatabaseError, RowLocked, SchemaMissing
from sha_daemon.held_rows import HeldRows
from sha_daemon.ingest_queue import Answer, Busy, IngestQueue, NotStored, Refused, Ticket, Unavailable, Waiting
from telemetry_common.clock import Clock
from telemetry_common.contract import Update
from telemetry_common.lifecycle import Pulse
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

MAX_BATCH = 500
"""Updates in one transaction: beyond a few hundred the cost per update falls no further, and latency grows."""
MAX_HEARD = 1000
"""Jobs remembered as heard through an invalid message until the next transaction."""
ATTEMPTS = 5
"""How often a transaction is tried that met a conflict or lost its connection; the `seq` guard makes it safe."""
PATIENCE_SECONDS = 5.0
"""A transaction that was under way for so long is not tried again: its senders wait, and can try another time."""
RETRY_SECONDS = 0.02
"""Pause before the second attempt; it doubles."""
IDLE_SECONDS = 1.0
"""An idle writer still makes a turn this often, so that one can see that it lives."""


class Ingest:
    """Bounded queue and single writer of one kind of job."""

    def __init__(
        self, database: Database, clock: Clock, estimate_us: Callable[[], int], max_queue: int, pulse: Pulse
    ) -> None:
        self._database = database
        self._clock = clock
        self._estimate_us = estimate_us
        self._pulse = pulse
        self._queue = IngestQueue(max_queue)
        self._held_rows = HeldRows(database)
        self._heard: dict[str, float] = {}
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._turned_away = False
        self._under_way_since: float | None = None
        self.trouble = ""
        self.committed = 0

    @property
    def queued(self) -> int:
        return len(self._queue)

    def could_hear(self) -> bool:
        """Whether since the last call everybody was let in and the database took what they said, without long waits."""
        turned_away, self._turned_away = self._turned_away, False
        since = self._under_way_since
        stuck = since is not None and self._clock.monotonic() - since > PATIENCE_SECONDS
        return not (turned_away or stuck or self.trouble)

    async def submit(self, job_id: str, update: Update, size: int = 0) -> Outcome:
        """Queue `update` (of `size` bytes) and wait until it is committed. Raises NotStored."""
        (answer,) = await self.submit_all([(job_id, update, size)])
        if isinstance(answer, NotStored):
            raise answer
        return answer

    async def submit_all(self, updates: Sequence[tuple[str, Update, int]]) -> Sequence[Answer]:
        """Queue these (job id, update, bytes) and wait until all are answered: the answers, in their order."""
        at = self._clock.wall()
        ticket = Ticket(len(updates))
        for place, (job_id, update, size) in enumerate(updates):
            if not self._queue.put(Waiting(Arrival(job_id, update, at), size, ticket, place)):
                self._turned_away = True
                ticket.settle(place, Busy())
        if self._queue:
            self._idle.clear()
            self._work.set()
        return await ticket.answers()

    def hear(self, job_id: str) -> None:
        """The job was heard, though what it said was not valid."""
        if len(self._heard) < MAX_HEARD:
            self._heard[job_id] = self._clock.wall()
            self._work.set()

    async def drained(self) -> None:
        """Until everything that was queued has been answered."""
        await self._idle.wait()

    async def run(self) -> None:
        """The writer, for ever. After a failure it asks on its own, each idle turn, whether the database is back."""
        while True:
            self._pulse.beat()
            if not self._queue and not self._heard:
                self._idle.set()
                await self._wait_for_work()
                if not self.trouble:
                    continue
            batch = self._queue.take(MAX_BATCH)
            heard, self._heard = list(self._heard.items()), {}
            self._under_way_since = self._clock.monotonic()
            held = await self._held_rows.known(_jobs(batch, heard))
            await self._commit(*_without(held, batch, heard))
            self._under_way_since = None

    async def _wait_for_work(self) -> None:
        self._work.clear()
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._work.wait()
        except TimeoutError:
            return

    async def _commit(self, batch: list[Waiting], heard: list[tuple[str, float]]) -> None:
        """Commit and answer; a batch that fails for a reason of its own is split until the guilty one stands alone."""
        try:
            outcomes = await self._transact([waiting.arrival for waiting in batch], heard)
        except (DatabaseAway, SchemaMissing) as error:
            self._trouble_is(str(error))
            _answer_all(batch, Unavailable(str(error)))
        except RowLocked as error:
            held = await self._held_rows.among(_jobs(batch, heard))
            if held:
                await self._commit(*_without(held, batch, heard))
            else:
                await self._split(batch, heard, error)
        except Exception as error:
            await self._split(batch, heard, error)
        else:
            self._trouble_is("")
            self.committed += len(batch)
            for waiting, outcome in zip(batch, outcomes, strict=True):
                waiting.settle(outcome)

    async def _split(self, batch: list[Waiting], heard: list[tuple[str, float]], error: Exception) -> None:
        if len(batch) + len(heard) > 1:
            half, half_heard = (len(batch) + 1) // 2, len(heard) // 2
            await self._commit(batch[:half], heard[:half_heard])
            await self._commit(batch[half:], heard[half_heard:])
            return
        trace = error if not isinstance(error, DatabaseError) else None
        for job_id in [waiting.arrival.job_id for waiting in batch] or [job_id for job_id, _ in heard]:
            log.error(fields("update refused", job=job_id, reason=error), exc_info=trace)
        _answer_all(batch, Refused(str(error)))

    async def _transact(self, arrivals: list[Arrival], heard: list[tuple[str, float]]) -> list[Outcome]:
        pause, begun = RETRY_SECONDS, self._clock.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            self._pulse.beat()
            try:
                return await self._database.run(lambda session: apply(session, arrivals, heard, self._estimate_us()))
            except (DatabaseConflict, DatabaseAway):
                if attempt == ATTEMPTS or self.trouble or self._clock.monotonic() - begun > PATIENCE_SECONDS:
                    raise
                await asyncio.sleep(pause)
                pause *= 2
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _trouble_is(self, trouble: str) -> None:
        if trouble and not self.trouble:
            log.error(fields("database takes no updates; they are answered 503", reason=trouble))
        elif self.trouble and not trouble:
            log.warning("database takes updates again")
        self.trouble = trouble


def _answer_all(batch: Iterable[Waiting], answer: Answer) -> None:
    for waiting in batch:
        waiting.settle(answer)


def _jobs(batch: list[Waiting], heard: list[tuple[str, float]]) -> set[str]:
    return {waiting.arrival.job_id for waiting in batch} | {job_id for job_id, _ in heard}


def _without(
    held: set[str], batch: list[Waiting], heard: list[tuple[str, float]]
) -> tuple[list[Waiting], list[tuple[str, float]]]:
    """What is left when the updates of jobs that another program holds are refused."""
    if not held:
        return batch, heard
    _answer_all((waiting for waiting in batch if waiting.arrival.job_id in held), Refused("held by another program"))
    left = [waiting for waiting in batch if waiting.arrival.job_id not in held]
    return left, [(job_id, at) for job_id, at in heard if job_id not in held]
