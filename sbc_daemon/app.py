"""The sidecar put together: its parts, the tasks that keep them going, and the order in which it stops.

Clock, outbox, hub, processes and the way to systemd come from outside: the fault simulation runs this very code
without a disk, a network or a second that really passes. It speaks through `converse`, as the listener does.
"""

import asyncio
import logging
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from msgspec import structs

from sbc_daemon.attachments import Attachments
from sbc_daemon.complaints import Complaints
from sbc_daemon.config import SidecarSettings
from sbc_daemon.conversation import Conversation
from sbc_daemon.dead_letters import DeadLetters
from sbc_daemon.descriptor_store import DescriptorStore
from sbc_daemon.forwarder import Forwarder
from sbc_daemon.hub_link import HubLink
from sbc_daemon.intake import PULSE_SECONDS, Intake
from sbc_daemon.metrics import Measured, exposition
from sbc_daemon.outbox import Figures, Opened, Outbox, OutboxFull
from sbc_daemon.overview import ENDED_SHOWN, job_state, outbox_state
from sbc_daemon.processes import Peer, Processes
from sbc_daemon.sequence import STEP, Sequence
from sbc_daemon.spooler import Spooler
from sbc_daemon.status import Status
from sbc_daemon.survivors import Survivors
from telemetry_common import __version__
from telemetry_common.clock import Clock
from telemetry_common.lifecycle import Lifecycle
from telemetry_common.logs import fields
from telemetry_common.text import counted

log = logging.getLogger(__name__)

STATUS_SECONDS = 5.0
"""Between two STATUS= lines where systemd asked for no watchdog pings, and between two looks at what waits."""
LAST_DELIVERIES_SECONDS = 2.0
"""A stop waits so long for what is on its way to the hub. The rest is in the outbox and goes out after the start."""
_LOOK_SECONDS = 0.02
_NOTHING = Figures(states=0, progress=0, samples=0, dead_letters=0, bytes_used=0, oldest_wall=None)


class Sidecar:
    """Made by `opened`, which opens the outbox."""

    def __init__(
        self,
        settings: SidecarSettings,
        clock: Clock,
        outbox: Outbox,
        found: Opened,
        hub: HubLink,
        processes: Processes,
        lifecycle: Lifecycle,
        store: DescriptorStore | None = None,
        rng: random.Random | None = None,
    ) -> None:
        rng = rng or random.SystemRandom()
        sequence = Sequence(clock, found.seq_ceiling, rng.randrange(STEP))
        self.forwarder = Forwarder(
            outbox,
            hub,
            sequence,
            clock,
            max_in_flight=settings.hub.max_in_flight,
            rng=rng,
            beat=lifecycle.pulse("forwarder", PULSE_SECONDS).beat,
        )
        pulse = lifecycle.pulse("intake", PULSE_SECONDS)
        self.spooler = Spooler(outbox, sequence, clock, self.forwarder.wake, pulse.beat)
        self.intake = Intake(clock, self.spooler, settings.cadence, pulse)
        self.outbox_lost = found.moved_aside is not None
        """Nothing is known any more of what was said to an earlier daemon."""
        self.survivors = Survivors(outbox, store, self.intake.when_written, found.survivors)
        self.attachments = Attachments(processes, self.intake, Complaints(clock), self.survivors)
        self.intake.on_end = self.attachments.release
        self.bad_lines = Complaints(clock)
        self.dead_letters = DeadLetters(outbox, self.forwarder.wake)
        self._clock = clock
        self._started_at = clock.wall()
        self._settings = settings
        self._outbox = outbox
        self._hub = hub
        self._lifecycle = lifecycle
        self.connections: Callable[[], int] = lambda: 0
        """How many producers are connected, where somebody listens for them."""
        self._waiting = list(found.waiting)
        self._figures = _NOTHING

    @classmethod
    async def opened(
        cls,
        settings: SidecarSettings,
        clock: Clock,
        outbox: Outbox,
        hub: HubLink,
        processes: Processes,
        lifecycle: Lifecycle,
        store: DescriptorStore | None = None,
        rng: random.Random | None = None,
    ) -> "Sidecar":
        """Open the outbox and take up the jobs it holds. Raises StateDirectoryHeld.

        `rng` is the source of jitter, and of how many numbers this life leaves out (`sequence`).
        """
        found = await outbox.open()
        sidecar = cls(settings, clock, outbox, found, hub, processes, lifecycle, store, rng)
        sidecar.intake.restore(found.jobs)
        sidecar.forwarder.take_up(found.waiting)
        log.info(fields("outbox opened", jobs=len(found.jobs), waiting=len(found.waiting)))
        return sidecar

    def converse(self, peer: Peer, write: Callable[[bytes], None]) -> Conversation:
        """A producer has connected; `write` takes what is answered."""
        return Conversation(self.intake, self.attachments, peer, self.bad_lines, write)

    def status(self) -> str:
        """One line for a person."""
        link = self.forwarder.hub_state().link
        hub = {"up": "hub reachable", "down": "hub unreachable", "unknown": "hub not tried yet"}[link]
        running = self.intake.jobs.running_count()
        return f"{counted(running, 'job')} running, {len(self._waiting)} waiting for the hub, {hub}"

    async def report(self) -> Status:
        """Everything the operator may ask for. While the outbox cannot be read, its last known figures."""
        await self._look()
        waiting = set(self._waiting)
        now = self._clock.monotonic()
        pids = self.attachments.holders()
        jobs = [*self.intake.jobs.running(), *self.intake.jobs.latest_ended(ENDED_SHOWN)]
        return Status(
            version=__version__,
            pid=os.getpid(),
            started_at=self._started_at,
            hub=structs.replace(self.forwarder.hub_state(), first_url=self._settings.hub.url),
            outbox=outbox_state(self._figures, self._clock.wall(), self._settings.outbox.max_bytes),
            counters=self.counters(),
            jobs=tuple(
                job_state(
                    job,
                    now,
                    waiting=job.state.job_id in waiting,
                    hub_status=self.forwarder.verdict(job.state.job_id),
                    pids=pids.get(job.state.job_id, ()),
                )
                for job in jobs
            ),
            held=self.forwarder.held(),
        )

    async def scrape(self) -> str:
        """The figures for Prometheus, those of the outbox all of one moment."""
        figures = await self._outbox.figures()
        running = list(self.intake.jobs.running())
        return exposition(
            Measured(
                version=__version__,
                started_at=self._started_at,
                wall=self._clock.wall(),
                figures=figures,
                max_bytes=self._settings.outbox.max_bytes,
                connections=self.connections(),
                running=len(running),
                attached=sum(job.attached for job in running),
                link=self.forwarder.hub_state().link,
                held=Counter(lane.status for lane in self.forwarder.held()),
                counters=self.counters(),
            )
        )

    def counters(self) -> dict[str, int]:
        """Since the start."""
        own = {
            "lines": self.intake.lines,
            "bad_lines": self.bad_lines.total,
            "kept": self.spooler.kept,
            "refused": self.spooler.refused,
        }
        return {**own, **self.forwarder.counters}

    @asynccontextmanager
    async def running(self, ping_seconds: float | None) -> AsyncIterator[None]:
        """Keep all parts going within the block. If one of them dies, the block is cancelled and the reason raised."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.intake.run(), name="intake"),
                group.create_task(self.forwarder.run(), name="forwarder"),
                group.create_task(self.survivors.run(), name="survivors"),
                group.create_task(self._hub.tend(), name="hub routes"),
                group.create_task(self._keep_looking(), name="outbox figures"),
                group.create_task(self._lifecycle.vouch(self.status, ping_seconds or STATUS_SECONDS), name="vouching"),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def finish(self) -> None:
        """Nothing comes in any more: have everything on the disk, and let what is on its way to the hub arrive."""
        await self.intake.finish()
        await self.survivors.write()
        for _ in range(int(LAST_DELIVERIES_SECONDS / _LOOK_SECONDS)):
            if self.forwarder.idle:
                return
            await asyncio.sleep(_LOOK_SECONDS)
        log.info("stopping with messages on their way; they are in the outbox and are sent again")

    async def close(self) -> None:
        self.attachments.close()
        await self._hub.close()
        await self._outbox.close()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(STATUS_SECONDS)
            await self._look()

    async def _look(self) -> None:
        try:
            self._waiting = list(await self._outbox.waiting())
            self._figures = await self._outbox.figures()
        except OutboxFull:
            return  # the outbox has said so in the journal; what was known stays
