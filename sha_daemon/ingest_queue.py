"""What waits to be committed, bounded in number and bytes, and the tickets by which its senders wait."""

import asyncio
from collections import deque
from collections.abc import Sequence

from msgspec import UNSET, Struct

from sha_daemon.batch import Arrival, Outcome
from telemetry_common.contract import Update

MAX_QUEUED_BYTES = 64 << 20
"""Of updates that wait: a bound on memory whatever they are made of."""
DISK_BYTES = 300
"""What a disk of an update takes in memory, however few bytes it was in the body."""


class NotStored(Exception):
    """An update that was not stored; the sender keeps it and tries again."""


class Busy(NotStored):
    """The queue is full."""


class Unavailable(NotStored):
    """The database cannot be written to now."""


class Refused(NotStored):
    """The database refuses this update; the journal has the reason."""


Answer = Outcome | NotStored


class Ticket:
    """The answers to the updates of one request. A sender that has hung up is answered like any other."""

    def __init__(self, count: int) -> None:
        self._answers: list[Answer] = [Unavailable()] * count
        self._open = count
        self._complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, place: int, answer: Answer) -> None:
        """Each place once."""
        self._answers[place] = answer
        self._open -= 1
        if not self._open and not self._complete.done():
            self._complete.set_result(None)

    async def answers(self) -> Sequence[Answer]:
        """In the order of the updates, when the last of them is settled."""
        if self._open:
            await self._complete
        return self._answers


def weight(update: Update, size: int) -> int:
    """Bytes of memory that an update of so many bytes takes while it waits."""
    return size if update.disks is UNSET else size + DISK_BYTES * len(update.disks)


class Waiting(Struct):
    """One update in the queue, of `size` bytes in memory, and where its answer belongs."""

    arrival: Arrival
    size: int
    ticket: Ticket
    place: int

    def settle(self, answer: Answer) -> None:
        self.ticket.settle(self.place, answer)


class Room:
    """What all queues together may hold: `most` updates and MAX_QUEUED_BYTES."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.updates = 0
        self.bytes = 0

    def take(self, size: int) -> bool:
        """Room for an update of so many bytes; False, and nothing taken, where there is none."""
        if self.updates >= self.most or self.bytes + size > MAX_QUEUED_BYTES:
            return False
        self.updates += 1
        self.bytes += size
        return True

    def give_back(self, updates: int, size: int) -> None:
        self.updates -= updates
        self.bytes -= size


class IngestQueue:
    """First in, first out."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._queue: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def has(self, job_id: str) -> bool:
        """Whether an update of the job waits. Looks at all that do."""
        return any(waiting.arrival.job_id == job_id for waiting in self._queue)

    def put(self, waiting: Waiting) -> bool:
        """False, and nothing done, where there is no room."""
        if not self._room.take(waiting.size):
            return False
        self._queue.append(waiting)
        return True

    def take(self, most: int) -> list[Waiting]:
        """The next ones, at most `most`."""
        taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        self._room.give_back(len(taken), sum(waiting.size for waiting in taken))
        return taken
