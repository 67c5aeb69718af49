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
        answer, closes = await _answer(reader)
        if closes:
            await self.close()
        return answer

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
            self.connections += 1
        return self._streams

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _answer(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """The next one, and whether it is the last of its connection."""
    status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if line)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    answer = Answer(int(status_line.split()[1]), headers.get("content-type", ""), body)
    return answer, headers.get("connection") == "close"


async def throw(host: str, port: int, data: bytes, patience_seconds: float) -> Answer | None:
    """Send these bytes on a connection of their own; None where no answer comes in time."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(data)
    try:
        async with asyncio.timeout(patience_seconds):
            return (await _answer(reader))[0]
    except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
        return None
    finally:
        writer.close()


@asynccontextmanager
async def raw_clients(host: str, port: int, count: int) -> AsyncIterator[list[RawClient]]:
    clients = [RawClient(host, port) for _ in range(count)]
    yield clients
    for client in clients:
        await client.close()
