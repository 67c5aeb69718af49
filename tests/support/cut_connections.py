"""A way to MariaDB that is cut where a test says so: between the server and the hub, on a Unix socket of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

from testbed.memory_database import When

Cut = When | Literal["late"]
_QUERY = 3
"""The command byte of a packet that asks for a statement; a ping has another."""


class CutConnections:
    """The next statement (`begin`), the next COMMIT (`commit`) or the answer to it (`answer`) gets lost, once.

    A `late` COMMIT is on its way when the connection breaks, and comes to the server when `arrive` is called.
    A statement is found if it comes in one piece, which those of a test do.
    """

    def __init__(self, server: Path) -> None:
        self._server = server
        self._cut: Cut | None = None
        self._arrival = asyncio.Event()
        self._arrived = asyncio.Event()
        self._served: set[asyncio.Task[None]] = set()

    def cut(self, when: Cut) -> None:
        self._cut = when

    async def arrive(self) -> None:
        """Returns when the late COMMIT is done."""
        self._arrival.set()
        await self._arrived.wait()

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served.add(asyncio.create_task(self._serve(reader, writer)))

    async def end(self) -> None:
        """Every connection, whatever is on its way."""
        for task in self._served:
            task.cancel()
        await asyncio.gather(*self._served, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._server)
        answers = asyncio.create_task(_pump(server_reader, writer))
        try:
            while statement := await reader.read(1 << 16):
                cut = self._strikes(statement)
                if cut is not None:
                    await _over(answers)
                    await self._lose(cut, statement, (server_reader, server_writer), writer)
                    break
                server_writer.write(statement)
        finally:
            answers.cancel()
            writer.close()
            server_writer.close()

    async def _lose(
        self,
        cut: Cut,
        statement: bytes,
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        writer: asyncio.StreamWriter,
    ) -> None:
        if cut == "late":
            writer.close()
            await self._arrival.wait()
        if cut in ("answer", "late"):
            server[1].write(statement)
            await server[0].read(1 << 16)
            self._arrived.set()

    def _strikes(self, statement: bytes) -> Cut | None:
        if self._cut is None or statement[4:5] != bytes([_QUERY]):
            return None
        if self._cut != "begin" and b"COMMIT" not in statement:
            return None
        cut, self._cut = self._cut, None
        return cut


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
    writer.close()


async def _over(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


@asynccontextmanager
async def cut_connections(server: Path, place: Path) -> AsyncIterator[CutConnections]:
    """In front of the server's socket, at `place`."""
    way = CutConnections(server)
    async with await asyncio.start_unix_server(way.serve, place):
        try:
            yield way
        finally:
            await way.end()
