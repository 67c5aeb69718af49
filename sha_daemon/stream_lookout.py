"""When the tables are looked at: once a second while somebody listens, at once where somebody waits for it."""

import asyncio
import logging

from sha_daemon.database import DatabaseError
from sha_daemon.stream_look import Look
from sha_daemon.stream_recording import Recording
from telemetry_common.clock import Clock
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
PAUSE = 10
"""Times as long as the fingerprints took is the pause after a look, at least: they take a tenth of the time at most."""


class Lookout:
    """Calls nothing back: what a look finds is in the recording, and `found` is set."""

    def __init__(self, look: Look, clock: Clock, found: asyncio.Event) -> None:
        self._look = look
        self._clock = clock
        self._found = found
        self._recording: Recording | None = None
        self._wanted = asyncio.Event()
        self._asked = asyncio.Event()
        self._waiting: list[asyncio.Future[bool]] = []
        self._up_to_date = False

    def begin(self, recording: Recording) -> None:
        """Somebody listens."""
        self._recording = recording
        self._wanted.set()

    def end(self) -> None:
        """Nobody listens any more."""
        self._recording = None
        self._wanted.clear()
        self._up_to_date = False

    def ask(self) -> None:
        """There are jobs to be looked up without delay."""
        self._asked.set()

    async def looked(self) -> bool:
        """Wait until the tables have been looked at since somebody listens; False where the database is away."""
        if self._up_to_date:
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._asked.set()
        return await waiter

    def stop_waiting(self) -> None:
        self._answer(looked=False)

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._wanted.wait()
            took = await self._look_at_all(self._recording) if self._recording is not None else 0.0
            await self._pause(max(LOOK_SECONDS, PAUSE * took))

    async def _look_at_all(self, recording: Recording) -> float:
        looked, took = True, 0.0
        try:
            took = await self._look.at_all(recording)
        except DatabaseError as error:
            looked = False
            log.debug(fields("look for changes of others put off", reason=error))
        self._found.set()
        if recording is self._recording:
            self._up_to_date = looked
            self._answer(looked=looked)
        return took

    async def _pause(self, seconds: float) -> None:
        """Until the next look is due, or somebody waits for one."""
        due = self._clock.monotonic() + seconds
        while self._wanted.is_set() and not self._waiting and (left := due - self._clock.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._asked.wait()
            except TimeoutError:
                return
            self._asked.clear()
            if self._recording is not None and not self._waiting:
                await self._look_at_unknown(self._recording)

    async def _look_at_unknown(self, recording: Recording) -> None:
        try:
            await self._look.at_unknown(recording)
        except DatabaseError as error:
            log.debug(fields("jobs are looked up with the next look", reason=error))
        self._found.set()

    def _answer(self, *, looked: bool) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(looked)
