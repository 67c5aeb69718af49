"""The hub put together: its parts, the tasks that keep them going, and the order in which it stops.

Clock, databases and the way to systemd come from outside: the fault simulation runs this very code without a network,
a MariaDB or a second that really passes.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

from sha_daemon.config import HubSettings, streams_at_once
from sha_daemon.database import Database
from sha_daemon.health import LOOK_SECONDS, Figures, Health
from sha_daemon.ingest import Ingest
from sha_daemon.ingest_queue import IngestQueue, Room
from sha_daemon.job_types import BACKUP, JOB_TYPES, JobType
from sha_daemon.listening import ListeningClock
from sha_daemon.pruning import INTERVAL_SECONDS, Pruning
from sha_daemon.reading import Reader
from sha_daemon.receiving import Receiver
from sha_daemon.shedding import Shedding
from sha_daemon.silence import Thresholds
from sha_daemon.stream import Stream
from sha_daemon.tally import Door
from sha_daemon.trouble import Trouble
from sha_daemon.unwritten import Unwritten
from sha_daemon.watchdog import StaleWatchdog
from sha_daemon.writer import Writer
from telemetry_common.clock import Clock
from telemetry_common.lifecycle import Lifecycle
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

Purpose = Literal["write", "watch", "read", "search", "follow", "prune"]
"""One connection each, so that a slow reader delays no commit and no sweep, a search that reads every job no other
reader, and pruning nobody."""
WRITERS = 1
"""Of one kind of job. More of them, each with jobs of its own, made smaller batches and fewer updates a second."""
LEAST_PATIENCE_SECONDS = 2.0
"""A part makes a turn at least this often while the database answers at once. While it does not, a turn may have to
wait for a connection and then for an answer: a database that is away makes no part late."""
CLOSE_SECONDS = 1.0
"""For the database to take leave."""
STATUS_SECONDS = 5.0
"""Between two STATUS= lines where systemd asked for no watchdog pings."""


@dataclass(frozen=True)
class Parts:
    """What takes, keeps and watches one kind of job."""

    ingest: Ingest
    room: Room
    watchdog: StaleWatchdog
    read: Database
    search: Database


class Hub:
    """`connect` opens the database of one kind of job for one purpose."""

    def __init__(
        self,
        settings: HubSettings,
        clock: Clock,
        connect: Callable[[JobType, Purpose], Database],
        lifecycle: Lifecycle,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._connect = connect
        self._lifecycle = lifecycle
        self._thresholds = Thresholds(settings.watchdog.warn_seconds, settings.watchdog.fail_seconds)
        self._patience = LEAST_PATIENCE_SECONDS + 2 * settings.database.timeout_seconds
        self._databases: list[Database] = []
        self._accepting = False
        self._shedding = Shedding(clock)
        self.door = Door(settings.listen.max_connections)
        pulse = lifecycle.pulse("listening", self._patience)
        self.listening = ListeningClock(self._open(BACKUP, "watch"), clock, self._can_hear, pulse)
        self.stream = Stream(
            {kind: self._open(kind, "follow") for kind in JOB_TYPES},
            clock,
            self.listening.estimate_us,
            self._thresholds,
            streams_at_once(settings.listen),
        )
        self.parts = {kind.name: self._parts(kind) for kind in JOB_TYPES}
        self.pruning = self._pruning(settings.history.retention_days)
        pulse = lifecycle.pulse("health", LOOK_SECONDS + self._patience)
        self.health = Health(self._open(BACKUP, "watch"), clock, self._figures, pulse)
        self.receiver = Receiver({name: parts.ingest for name, parts in self.parts.items()})
        self.reader = Reader(
            {name: parts.read for name, parts in self.parts.items()},
            {name: parts.search for name, parts in self.parts.items()},
            clock,
            self.listening.estimate_us,
            self._thresholds,
            self.health,
        )

    def _open(self, kind: JobType, purpose: Purpose) -> Database:
        database = self._connect(kind, purpose)
        self._databases.append(database)
        return database

    def _parts(self, kind: JobType) -> Parts:
        settings, pulse = self._settings, self._lifecycle.pulse
        room, trouble, unwritten = Room(settings.listen.max_queue), Trouble(), Unwritten()
        writers = [
            Writer(
                self._open(kind, "write"),
                self._clock,
                self.listening.estimate_us,
                IngestQueue(room),
                trouble,
                unwritten,
                pulse(f"{kind.name} writer {number}", self._patience),
                partial(self.stream.committed, kind),
            )
            for number in range(1, WRITERS + 1)
        ]
        watchdog = StaleWatchdog(
            self._open(kind, "watch"),
            self.listening,
            self._clock,
            self._thresholds,
            fail_never_heard=settings.watchdog.never_heard == "fail",
            unwritten=unwritten,
            pulse=pulse(f"{kind.name} sweep", settings.watchdog.interval_seconds + self._patience),
            failed=partial(self.stream.look_at, kind),
        )
        ingest = Ingest(writers, trouble, self._shedding, self._clock)
        return Parts(ingest, room, watchdog, self._open(kind, "read"), self._open(kind, "search"))

    def _pruning(self, retention_days: int) -> Pruning | None:
        """The history is one table for all kinds of job."""
        if not retention_days:
            return None
        pulse = self._lifecycle.pulse("history pruning", INTERVAL_SECONDS + 3 * self._patience)
        return Pruning(self._open(BACKUP, "prune"), self._clock, retention_days, pulse)

    def accepting(self, accepting: bool) -> None:
        """Whether senders can reach the hub: only then does it listen, and silence count. There is no way back."""
        self._accepting = accepting
        if not accepting:
            self.receiver.stop_intake()

    def turned_away(self) -> None:
        """A sender was refused a connection, or room for its body."""
        self._shedding.turned_away("no room for another connection or large body")
        self.door.turned_away += 1

    def status(self) -> str:
        return self.health.status()

    @asynccontextmanager
    async def running(self, ping_seconds: float | None) -> AsyncIterator[None]:
        """Keep all parts going within the block. If one of them dies, the block is cancelled and the reason raised."""
        await self.health.look()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work, name=name) for name, work in self._work(ping_seconds)]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    def _work(self, ping_seconds: float | None) -> Iterator[tuple[str, Coroutine[None, None, None]]]:
        """The endless tasks of the hub, by name."""
        yield "listening clock", self.listening.run()
        yield "health", self.health.run()
        yield from self.stream.tasks()
        if self.pruning is not None:
            yield "history pruning", self.pruning.run()
        yield "vouching", self._lifecycle.vouch(self.status, ping_seconds or STATUS_SECONDS)
        for name, parts in self.parts.items():
            for number, writer in enumerate(parts.ingest, 1):
                yield f"{name} writer {number}", writer.run()
            yield f"{name} sweep", parts.watchdog.run(self._settings.watchdog.interval_seconds)

    async def finish(self, deadline_seconds: float) -> None:
        """Answer the updates that were accepted, within the deadline."""
        try:
            async with asyncio.timeout(deadline_seconds):
                for parts in self.parts.values():
                    await parts.ingest.drained()
        except TimeoutError:
            queued = self._figures().queued
            log.error(fields("stopping with updates unanswered; their senders keep them", updates=queued))

    async def close(self) -> None:
        """Within CLOSE_SECONDS: a server that does not answer must not keep the hub from ending."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*(database.close() for database in self._databases))
        except TimeoutError:
            log.warning("the database does not answer; its connections are given up")

    def _can_hear(self) -> bool:
        able = all(parts.ingest.could_hear() for parts in self.parts.values())
        return self._accepting and able and not self._shedding.of_late()

    def _figures(self) -> Figures:
        return Figures(
            committed=sum(parts.ingest.committed for parts in self.parts.values()),
            queued=sum(parts.ingest.queued for parts in self.parts.values()),
            silent=sum(parts.watchdog.silent for parts in self.parts.values()),
            never_heard=sum(parts.watchdog.never_heard for parts in self.parts.values()),
            trouble=" ".join(parts.ingest.trouble for parts in self.parts.values() if parts.ingest.trouble),
        )
