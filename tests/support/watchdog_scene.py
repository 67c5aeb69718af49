"""The watchdog at work in virtual time: hubs that come and go, senders that go on or fall silent, one database."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import pytest
from msgspec import convert

from sha_daemon.app import Hub
from sha_daemon.config import HubSettings
from sha_daemon.ingest_queue import NotStored
from sha_daemon.records import Job
from telemetry_common.clock import Moment
from telemetry_common.contract import Update
from testbed.memory_database import MemoryDatabase
from tests.support.hub import virtual_hub
from tests.support.virtual_clock import VirtualClock, run_virtual

CADENCE_SECONDS = 5.0
VERDICT = "job failed by the watchdog job="


class DatabaseClock:
    """The clock of the machine that the database runs on: it can be stepped apart from the hubs' clock."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.stepped = 0.0

    def wall(self) -> float:
        return self._clock.wall() - self._clock.stepped + self.stepped

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def moment(self) -> Moment:
        return self._clock.moment()


class Scene:
    """Running jobs; each of them is heard as long as its sender is in `senders`, every five seconds, by any hub."""

    def __init__(self, log: pytest.LogCaptureFixture, settings: HubSettings | None = None) -> None:
        self.clock = VirtualClock()
        self.database_clock = DatabaseClock(self.clock)
        self.database = MemoryDatabase(self.database_clock)
        self.settings = settings or HubSettings()
        self.write_seconds = 0.0
        self.senders: set[str] = set()
        self.hubs: list[Hub] = []
        self._log = log

    def play(self, story: Callable[["Scene"], Awaitable[None]], jobs: Iterable[str | Job] = ("dead", "live")) -> None:
        """The job `live` has a sender from the beginning, whatever other jobs there are."""
        for job in jobs:
            self.database.add_job(job if isinstance(job, Job) else Job(job_id=job, status="running"))
        self.senders |= {"live"} & self.database.tables.jobs.keys()
        with self._log.at_level(logging.INFO):
            run_virtual(self._play(story), self.clock)

    async def _play(self, story: Callable[["Scene"], Awaitable[None]]) -> None:
        sending = asyncio.create_task(self._send())
        await story(self)
        sending.cancel()

    async def _send(self) -> None:
        while True:
            for job_id in sorted(self.senders):
                for hub in self.hubs[-1:]:
                    with suppress(NotStored):
                        await self.say(job_id, hub=hub)
            await asyncio.sleep(CADENCE_SECONDS)

    async def say(self, job_id: str, status: str = "running", hub: Hub | None = None, **more: object) -> None:
        """One message. Raises NotStored."""
        update = convert({"status": status} | more, Update)
        await (hub or self.hubs[-1]).parts["backup"].ingest.submit(job_id, update)

    @asynccontextmanager
    async def hub(self) -> AsyncIterator[Hub]:
        """One more hub within the block; leaving it is its crash. Senders report to the one that came last."""
        async with virtual_hub(self.database, self.clock, self.settings, self.write_seconds) as hub:
            self.hubs.append(hub)
            try:
                yield hub
            finally:
                self.hubs.remove(hub)

    async def up(self, seconds: float) -> None:
        """A hub that lives for so long."""
        async with self.hub():
            await asyncio.sleep(seconds)

    def job(self, job_id: str) -> Job:
        return self.database.tables.jobs[job_id].job

    def status(self, job_id: str = "dead") -> str:
        return self.job(job_id).status

    @property
    def messages(self) -> list[str]:
        return self._log.messages

    @property
    def failed(self) -> list[str]:
        """The jobs that were failed, in the order of the verdicts, also those that were revived."""
        return [line.removeprefix(VERDICT).split()[0] for line in self._log.messages if line.startswith(VERDICT)]
