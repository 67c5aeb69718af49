"""The open connections: how many there may be, and the sweep that cuts off those that keep the hub waiting."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from aiohttp import web

from sha_daemon.config import Listen
from sha_daemon.http_answers import Rejected
from sha_daemon.http_connection import Connection
from sha_daemon.replies import unavailable
from sha_daemon.tls import Certificate, TlsConnection
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 5.0
"""Between two sweeps; a connection is cut off that much too late at most."""


class Connections:
    """Must be made in the event loop that it serves."""

    def __init__(
        self,
        server: web.Server,
        listen: Listen,
        certificate: Certificate | None,
        on_turned_away: Callable[[], None],
        rejected: Rejected,
    ) -> None:
        self._server = server
        self._listen = listen
        self._certificate = certificate
        self._on_turned_away = on_turned_away
        self._rejected = rejected
        self._loop = asyncio.get_running_loop()
        self._open: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.cut_off = 0

    @property
    def count(self) -> int:
        """Open ones, from the first packet to the last."""
        return len(self._open)

    @property
    def certificate_expires(self) -> float | None:
        """Unix seconds; None without TLS."""
        return self._certificate.validity.ends if self._certificate else None

    def accept(self) -> asyncio.BaseProtocol:
        """The other end of a connection that has just come: asyncio's protocol factory."""
        if self.count >= self._listen.max_connections:
            self._on_turned_away()
            return _TurnedAway(None if self._certificate else _one_too_many())
        seconds = self._listen.keepalive_seconds
        connection = Connection(self._server, self._loop, seconds, self._gone, self._rejected)
        self._open.add(connection)
        self._empty.clear()
        if self._certificate is None:
            return connection
        return TlsConnection(self._loop, connection, self._certificate.context, self._listen.patience_seconds)

    def _gone(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._empty.set()

    async def emptied(self, seconds: float) -> None:
        """Until none is open, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()

    async def sweep(self) -> None:
        """For ever."""
        seconds = self._listen.patience_seconds
        while True:
            await asyncio.sleep(min(LONGEST_PAUSE_SECONDS, seconds / 4))
            now = self._loop.time()
            late = [connection for connection in self._open if connection.late(now, seconds)]
            for connection in late:
                connection.cut_off()
            if late:
                self.cut_off += len(late)
                log.info(fields("cut off connections that kept the hub waiting", connections=len(late)))


class _TurnedAway(asyncio.Protocol):
    """One connection too many: told so at once, where that can be done in clear, and closed."""

    def __init__(self, words: bytes | None) -> None:
        self._words = words

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        if self._words is not None:
            stream.write(self._words)
        stream.close()


def _one_too_many() -> bytes:
    reply = unavailable("the hub has as many connections as it takes; try again").reply()
    headers = {"Content-Type": reply.content_type, "Content-Length": str(len(reply.body)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in (headers | dict(reply.headers)).items())
    return f"HTTP/1.1 503 Service Unavailable\r\n{head}\r\n".encode() + reply.body
