"""The sidecar's receiving half on a real socket, with the outbox in memory and no hub; and a producer to talk to it."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sbc_daemon.attachments import Attachments
from sbc_daemon.complaints import Complaints
from sbc_daemon.config import CadenceSettings
from sbc_daemon.conversation import Conversation
from sbc_daemon.descriptor_store import DescriptorStore
from sbc_daemon.intake import Intake
from sbc_daemon.listener import Listener, bind
from sbc_daemon.message import Message
from sbc_daemon.processes import Peer, PidfdProcesses, Processes
from sbc_daemon.sequence import Sequence
from sbc_daemon.spooler import Spooler
from sbc_daemon.survivors import Survivors
from telemetry_common.clock import SystemClock
from telemetry_common.contract import Update
from telemetry_common.lifecycle import Pulse
from testbed.descriptor_keeper import DescriptorKeeper
from testbed.memory_outbox import MemoryOutbox


class Outbox(MemoryOutbox):
    """Remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Message] = []
        self.changed = asyncio.Event()

    async def keep(self, messages: Any, records: Any, *, synced: bool) -> None:
        await super().keep(messages, records, synced=synced)
        self.kept += messages
        self.changed.set()


class Desk:
    """Where producers report. Must be made within a running loop."""

    def __init__(
        self, path: Path, processes: Processes, max_connections: int, store: DescriptorStore | None = None
    ) -> None:
        self.path = str(path)
        self.outbox = Outbox()
        clock = SystemClock()
        spooler = Spooler(self.outbox, Sequence(clock), clock, lambda job_id: None)
        self.intake = Intake(clock, spooler, CadenceSettings(interval_seconds=0.2), Pulse("intake", 60.0, clock))
        self.survivors = Survivors(self.outbox, store, self.intake.when_written, {})
        self.attachments = Attachments(processes, self.intake, Complaints(clock), self.survivors)
        self.intake.on_end = self.attachments.release
        self.bad = Complaints(clock)
        self.listener = Listener(bind(self.path), self.converse, self.intake, max_connections, clock, self.survivors)
        self.attachments.read_all = self.listener.read_all

    def converse(self, peer: Peer, write: Callable[[bytes], None]) -> Conversation:
        return Conversation(self.intake, self.attachments, peer, self.bad, write)

    def last(self, job_id: str = "j1") -> Update | None:
        return next((message.update for message in reversed(self.outbox.kept) if message.job_id == job_id), None)

    def status(self, job_id: str = "j1") -> str | None:
        last = self.last(job_id)
        return last.status if last else None

    async def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait for something to be kept that makes it so; fails the test when it does not come."""
        async with asyncio.timeout(seconds):
            while not condition():
                self.outbox.changed.clear()
                await self.outbox.changed.wait()


@asynccontextmanager
async def desk(
    directory: Path,
    processes: Processes | None = None,
    *,
    max_connections: int = 64,
    store: DescriptorStore | None = None,
) -> AsyncIterator[Desk]:
    made = Desk(directory / "progress.sock", processes or PidfdProcesses(), max_connections, store)
    await made.outbox.open()
    task = asyncio.create_task(made.intake.run())
    keeping = asyncio.create_task(made.survivors.run())
    made.listener.start()
    try:
        yield made
        async with asyncio.timeout(10):
            await made.listener.stop()
            await made.intake.finish()
        await task
    finally:
        task.cancel()
        keeping.cancel()
        made.listener.close()
        made.attachments.close()


@contextmanager
def descriptor_store(directory: Path) -> Iterator[DescriptorStore]:
    """One that a service manager reads."""
    keeper = DescriptorKeeper(directory / "notify")
    store = DescriptorStore(str(keeper.path), 1536)
    try:
        yield store
    finally:
        store.close()
        keeper.close()


class Producer:
    """A connection, as any language would make it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, path: str) -> "Producer":
        return cls(*await asyncio.open_unix_connection(path))

    @property
    def socket(self) -> socket.socket:
        found: socket.socket = self._writer.get_extra_info("socket")
        return found

    def say(self, **line: object) -> None:
        self.write(json.dumps(line).encode() + b"\n")

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    async def heard(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            answer: dict[str, Any] = json.loads(await self._reader.readline())
        return answer

    async def ask(self, **line: object) -> dict[str, Any]:
        self.say(**line)
        return await self.heard()

    async def rest(self) -> bytes:
        """Everything until the daemon closes the connection."""
        async with asyncio.timeout(10):
            return await self._reader.read()

    def finish(self) -> None:
        self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()
