"""A MariaDB server whose answers can be made endless: between it and the hub, on a Unix socket of its own.

A server that is away or silent is noticed by a timeout. This one goes on and on: a byte now and then, so that the
driver waits for the rest for ever. It is how a thread gets stuck for real.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_ENDLESS = b"\xfe\xff\xff\x01"
"""The head of a packet of 16 MiB."""
_BYTE_SECONDS = 0.05


class SlowDatabase:
    """What a statement that holds `endless` is answered never comes to its end."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self._endless: bytes | None = None
        self._stuck: list[asyncio.StreamWriter] = []
        self._serving: set[asyncio.Task[None]] = set()
        self.met = asyncio.Event()

    def make_endless(self, part_of_statement: bytes) -> None:
        """From now on; `met` is set when the first one is asked."""
        self._endless = part_of_statement

    def cut_off(self) -> None:
        """The endless answers end by a lost connection, and new ones are as they should be."""
        self._endless = None
        for writer in self._stuck:
            writer.close()

    async def ended(self) -> None:
        """Until nobody is served any more, at most 5 s."""
        if self._serving:
            await asyncio.wait(self._serving, timeout=5)

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._server)
        answers = asyncio.create_task(_pump(server_reader, writer))
        with suppress(OSError):
            while statement := await reader.read(1 << 16):
                if self._endless is not None and self._endless in statement:
                    answers.cancel()
                    await self._drip(writer)
                    break
                server_writer.write(statement)
        answers.cancel()
        for each in (writer, server_writer):
            each.close()

    async def _drip(self, writer: asyncio.StreamWriter) -> None:
        self._stuck.append(writer)
        self.met.set()
        writer.write(_ENDLESS)
        while not writer.is_closing():
            writer.write(b"\0")
            await asyncio.sleep(_BYTE_SECONDS)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()


@asynccontextmanager
async def slow_database(server: Path, place: Path) -> AsyncIterator[SlowDatabase]:
    """In front of the server's socket, at `place`."""
    database = SlowDatabase(server)
    async with await asyncio.start_unix_server(database.serve, place):
        try:
            yield database
        finally:
            database.cut_off()
            await database.ended()
