"""Readers of the stream: what they are told, taken apart; on a wire of the test's own, or over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from sha_daemon.stream import Stream
from sha_daemon.stream_subscribers import Subscriber
from tests.support.hub import Client

STREAM = "/api/v1/telemetry/stream"


class Told(Struct, frozen=True):
    """One event. `event_id` is the last id that was seen by then, as a browser's EventSource keeps it."""

    name: str
    data: Any
    event_id: str


class Ears:
    """Takes apart what an EventSource would, fed in pieces of any size."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.event_id = ""
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        *whole, self._rest = (self._rest + piece).split(b"\n\n")
        for text in whole:
            fields = dict(line.split(": ", 1) for line in text.decode().split("\n") if ": " in line)
            self.event_id = fields.get("id", self.event_id)
            if "data" in fields:
                self.told.append(Told(fields["event"], json.loads(fields["data"]), self.event_id))

    def names(self) -> list[str]:
        return [told.name for told in self.told]

    def jobs(self, figure: str = "bytes_transferred") -> list[tuple[str, Any]]:
        """(job id, figure) of each job that was told, in order."""
        return [(told.data["job_id"], told.data.get(figure)) for told in self.told if told.name == "job"]


class FakeWire:
    """A connection that takes all, or nothing while it is `stuck`."""

    def __init__(self) -> None:
        self.ears = Ears()
        self.stuck = False
        self.left = False
        self.aborted = False
        self.writes = 0
        self._waiting = b""

    def write(self, text: bytes) -> None:
        assert not self.aborted
        self.writes += 1
        self._waiting += text
        self.waiting()

    def waiting(self) -> int:
        if not self.stuck:
            self.ears.feed(self._waiting)
            self._waiting = b""
        return len(self._waiting)

    def gone(self) -> bool:
        return self.left or self.aborted

    def abort(self) -> None:
        self.aborted = True


@asynccontextmanager
async def following(
    stream: Stream, job_id: str | None = None, last_event_id: str | None = None
) -> AsyncIterator[FakeWire]:
    """A reader without a network, within the block."""
    key = None if job_id is None else ("backup", job_id)
    wire = FakeWire()
    subscriber = Subscriber(wire, key)
    with stream.place():
        opening = await stream.opening(key, last_event_id)
        with stream.subscribers.joined(subscriber):
            for text in opening.texts:
                wire.write(text)
            task = asyncio.ensure_future(stream.follow(subscriber, opening.place))
            try:
                yield wire
            finally:
                task.cancel()


@asynccontextmanager
async def reading(client: Client, path: str = STREAM, last_event_id: str | None = None) -> AsyncIterator[Ears]:
    """A reader over HTTP, within the block; what it is told arrives by itself."""
    ears = Ears()
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    async with client.get(path, headers=headers) as answer:
        assert answer.status == 200, await answer.text()

        async def listen() -> None:
            async for piece in answer.content.iter_any():
                ears.feed(piece)

        task = asyncio.ensure_future(listen())
        try:
            yield ears
        finally:
            task.cancel()


async def until(happened: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for it; fail with what it last was."""
    async with asyncio.timeout(seconds):
        while not happened():
            await asyncio.sleep(0.005)
