"""Group commit: updates that wait together are committed together, and each sender is answered after the COMMIT.

What comes in is shared out among the writers (one in service) by its job, so that the updates of a job keep their
order. The queue is bounded. A sender that hangs up loses only its answer: the update is in the queue already.
"""

from collections.abc import Iterator, Sequence

from sha_daemon.batch import Arrival, Outcome
from sha_daemon.ingest_queue import Answer, Busy, NotStored, Ticket, Waiting, weight
from sha_daemon.shedding import Shedding
from sha_daemon.tally import Tally
from sha_daemon.trouble import Trouble
from sha_daemon.writer import Writer
from telemetry_common.clock import Clock
from telemetry_common.contract import Update


class Ingest:
    """Takes the updates of one kind of job."""

    def __init__(self, writers: Sequence[Writer], trouble: Trouble, shedding: Shedding, clock: Clock) -> None:
        self._writers = writers
        self._trouble = trouble
        self._shedding = shedding
        self._clock = clock

    def __iter__(self) -> Iterator[Writer]:
        return iter(self._writers)

    @property
    def queued(self) -> int:
        return sum(writer.queued for writer in self._writers)

    @property
    def committed(self) -> int:
        return sum(writer.committed for writer in self._writers)

    def tally(self) -> Tally:
        """What became of the updates, over all writers."""
        total = Tally()
        for writer in self._writers:
            total.add(writer.tally)
        return total

    @property
    def trouble(self) -> str:
        """What the database has against being written to; empty if nothing."""
        return self._trouble.text

    def could_hear(self) -> bool:
        """Whether the database takes what senders say, without long waits."""
        return not self._trouble and all(writer.could_hear() for writer in self._writers)

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
            waiting = Waiting(Arrival(job_id, update, at), weight(update, size), ticket, place)
            if not self._writer_of(job_id).put(waiting):
                self._shedding.turned_away("as many updates wait as listen.max_queue allows")
                ticket.settle(place, Busy())
        return await ticket.answers()

    def hear(self, job_id: str) -> None:
        """The job was heard, though what it said was not valid."""
        self._writer_of(job_id).hear(job_id)

    async def drained(self) -> None:
        """Until everything that was queued has been answered."""
        for writer in self._writers:
            await writer.drained()

    def _writer_of(self, job_id: str) -> Writer:
        return self._writers[hash(job_id) % len(self._writers)]
