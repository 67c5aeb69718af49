"""The delivery side in virtual time: a forwarder over the twin of the outbox and a scripted hub."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from sbc_daemon.forwarder import Forwarder
from sbc_daemon.hub_link import HubLink
from sbc_daemon.hub_routes import HubRoutes
from sbc_daemon.message import Message
from sbc_daemon.outbox import OutboxFull
from sbc_daemon.sequence import Sequence
from testbed.memory_disk import MemoryDisk
from testbed.memory_outbox import MemoryOutbox
from tests.support.balance import assert_balanced
from tests.support.scripted_hub import ScriptedHub
from tests.support.virtual_clock import VirtualClock, run_virtual


class World:
    """A forwarder with everything around it, at work while `play` runs."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.disk = MemoryDisk()
        self.outbox = MemoryOutbox(disk=self.disk)
        self.hub = ScriptedHub(self.clock.monotonic)
        self.routes: HubRoutes | None = None
        """What stands between forwarder and hubs, where there are several."""
        self.beats = 0

    def play(self, story: Callable[["World"], Awaitable[None]]) -> None:
        run_virtual(self._play(story), self.clock)

    async def _play(self, story: Callable[["World"], Awaitable[None]]) -> None:
        hub = self.routes or self.hub
        self.forwarder = Forwarder(
            self.outbox,
            hub,
            Sequence(self.clock),
            self.clock,
            max_in_flight=8,
            rng=random.Random(7),
            beat=self._beat,
        )
        running = asyncio.create_task(self._run(hub))
        telling = asyncio.ensure_future(story(self))
        done, _ = await asyncio.wait({running, telling}, return_when=asyncio.FIRST_COMPLETED)
        assert telling in done, f"the forwarder died: {running}"
        telling.result()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await assert_balanced(self.outbox)

    async def _run(self, hub: HubLink) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.forwarder.run())
            tasks.create_task(hub.tend())

    def _beat(self) -> None:
        self.beats += 1

    async def keep(self, *messages: Message) -> None:
        with suppress(OutboxFull):
            await self.outbox.keep(messages, [], synced=True)
        for one in messages:
            self.forwarder.wake(one.job_id)

    async def retry(self) -> None:
        """All dead letters, as the operator has it done."""
        for job_id in (await self.outbox.retry_letters(None)).values():
            self.forwarder.wake(job_id)

    async def empty(self) -> bool:
        figures = await self.outbox.figures()
        return figures.states == figures.progress == figures.samples == figures.in_memory == 0
