"""Where Prometheus asks: GET /metrics on a loopback port or a Unix socket, if the configuration or systemd says so.

Any user of the machine may connect to a loopback port, so everything is bounded: one request a connection, few
connections at once, little patience. That keeps the producers' descriptors for the producers.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from sbc_daemon.config import tcp_address
from sbc_daemon.control import bind
from sbc_daemon.metrics import CONTENT_TYPE

MAX_CONNECTIONS = 8
MAX_HEAD_BYTES = 8192
PATIENCE_SECONDS = 5.0
"""For a whole request and its answer; the outbox is asked within it."""
_BACKLOG = 8


class MetricsServer:
    """`scrape` gathers the text anew each time."""

    def __init__(self, scrape: Callable[[], Awaitable[str]]) -> None:
        self._scrape = scrape
        self._one_at_a_time = asyncio.Lock()
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._bound: Path | None = None

    async def start(self, listen: str, inherited: Iterable[socket.socket] = ()) -> None:
        """On systemd's sockets, and where `listen` says unless it is empty. Raises OSError."""
        sockets = list(inherited)
        if listen.startswith("/"):
            sockets.append(bind(Path(listen)))
            self._bound = Path(listen)
        elif listen:
            sockets.append(_loopback(listen))
        for one in sockets:
            one.setblocking(False)
            server = await asyncio.start_server(self._accept, sock=one, limit=MAX_HEAD_BYTES, backlog=_BACKLOG)
            self._servers.append(server)

    async def close(self) -> None:
        """A socket file that was bound here goes; one of systemd's stays."""
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._bound is not None:
            with contextlib.suppress(OSError):
                self._bound.unlink()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        serving = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="metrics: connection")
        self._connections.add(serving)
        serving.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await self._answer(head))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
            finally:
                writer.transport.abort()

    async def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.split(b"\r\n", 1)[0].partition(b" ")
        target = rest.partition(b" ")[0].partition(b"?")[0]
        if target != b"/metrics":
            return _response("404 Not Found", "the figures are at /metrics\n")
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", "figures can be read only\n", "Allow: GET, HEAD\r\n")
        async with self._one_at_a_time:
            text = await self._scrape()
        return _response("200 OK", text, with_body=method == b"GET")


def _loopback(listen: str) -> socket.socket:
    host, port = tcp_address(listen)
    return socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
    )


def _response(status: str, text: str, more: str = "", *, with_body: bool = True) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode() + (body if with_body else b"")
