"""HTTP as bytes on a socket, for requests that no client library would send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    status: int
    content_type: str
    body: bytes


class RawClient:
    """One connection at a time, kept alive, made anew whenever the server closes it."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.connections = 0

    async def post(self, path: str, body: bytes, *headers: str) -> Answer:
        head = [f"POST {path} HTTP/1.1", f"Host: {self._host}:{self._port}", f"Content-Length: {len(body)}", *headers]
        reader, writer = await self._open()
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        return await self._answer(reader)

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            await self.close()
        return Answer(int(status_line.split()[1]), headers.get("content-type", ""), body)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
            self.connections += 1
        return self._streams

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def throw(host: str, port: int, data: bytes, patience_seconds: float) -> int | None:
    """Send these bytes on a connection of their own; the status of the answer, None where none comes in time."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(data)
    try:
        async with asyncio.timeout(patience_seconds):
            status_line = await reader.readline()
    except (TimeoutError, ConnectionError):
        return None
    finally:
        writer.close()
    return int(status_line.split()[1]) if status_line else None


@asynccontextmanager
async def raw_clients(host: str, port: int, count: int) -> AsyncIterator[list[RawClient]]:
    clients = [RawClient(host, port) for _ in range(count)]
    yield clients
    for client in clients:
        await client.close()
