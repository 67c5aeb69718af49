"""A machine with a hub: the daemon as `sha_daemon.main` puts it together, its HTTP server included.

systemd keeps the listening socket while the daemon is down: who connects then waits for the next one.
"""

import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from sha_daemon.app import Hub
from sha_daemon.config import HubSettings
from sha_daemon.gate import Gate
from sha_daemon.http_api import application
from sha_daemon.serving import served
from simulation.clocks import MachineClock
from simulation.daemon import Daemon, Silence
from simulation.database import Client, Server
from simulation.database_connection import Connection
from simulation.ground import Ground
from simulation.hub_door import Line, ListeningSocket
from simulation.network import Exchange
from simulation.realm import Realm
from simulation.transport import Response
from telemetry_common.lifecycle import Lifecycle

_BACKLOG = 1024
_STOP_SECONDS = 10.0


class HubHost(Daemon):
    """`on_answer` is called with each answer to messages of jobs."""

    def __init__(
        self,
        ground: Ground,
        name: str,
        server: Server,
        on_answer: Callable[[Exchange, Response], None],
        on_death: Callable[[str], None],
    ) -> None:
        super().__init__(ground, name, on_death)
        self.clock = MachineClock(ground.loop)
        self.refuses = False
        self._server = server
        self._on_answer = on_answer
        self._socket = ListeningSocket(self._listening)
        self._heard = False
        self._lines: dict[Line, None] = {}
        self._idle: list[Line] = []
        self._backlog: deque[tuple[float, Exchange]] = deque()

    async def _serve(self, realm: Realm) -> None:
        settings, client = HubSettings(), Client(realm, self.clock)
        lifecycle = Lifecycle(Silence(), self.clock)
        hub = Hub(settings, self.clock, lambda _, purpose: Connection(self._server, client, purpose), lifecycle)
        try:
            async with hub.running(None):
                app = application(hub, Gate())
                async with served(
                    app,
                    cast(socket.socket, self._socket),
                    settings.listen,
                    on_turned_away=hub.turned_away,
                    stop_seconds=_STOP_SECONDS / 2,
                ) as hub.door.connections:
                    hub.accepting(True)
                    await self._stop.wait()
                    hub.accepting(False)
                    self._deaf()
                await hub.finish(_STOP_SECONDS / 2)
        finally:
            await hub.close()

    def _gone(self) -> None:
        self._socket.factory = None
        self._deaf()
        for line in list(self._lines):
            line.open = False
            self.lost(line)

    def arrive(self, exchange: Exchange) -> None:
        """A request has come as far as the machine."""
        if self.refuses:
            exchange.broken(self.loop)
        elif self._socket.factory is None:
            if len(self._backlog) < _BACKLOG:
                self._backlog.append((self.loop.now, exchange))
        else:
            self._take(exchange, self._socket.factory, self.loop.now)

    def answered(self, line: Line, exchange: Exchange, response: Response) -> None:
        self._story.note(
            "answered", exchange.job_ids[0] if exchange.job_ids else "", (response.status, response.headers)
        )
        if exchange.job_ids:
            self._on_answer(exchange, response)
        exchange.answered(response, self.loop)
        if line.open and not response.last:
            self._idle.append(line)

    def lost(self, line: Line) -> None:
        """The connection is closed; a request on it gets no answer."""
        self._lines.pop(line, None)
        if line in self._idle:
            self._idle.remove(line)
        exchange, line.exchange = line.exchange, None
        if exchange is not None:
            exchange.broken(self.loop)

    def _take(self, exchange: Exchange, factory: Callable[[], Any], since: float) -> None:
        """`since` it has been on the machine, in a connection of its own if that is not now."""
        if self._realm is None:
            raise RuntimeError("a socket is served by nobody")
        self._truth.arrived(exchange.job_ids, since - exchange.sent_at, self._realm)
        for job_id in exchange.job_ids:
            self._story.note(f"arrives at {self.name}", job_id)
        if self._idle and since == self.loop.now:
            line = self._idle.pop()
        else:
            line = Line(self, self._realm, factory, self.loop.now - since)
            self._lines[line] = None
        line.carry(exchange)

    def _listening(self) -> None:
        self._heard = True
        self._truth.ears.opened()
        self.loop.call_soon(self._take_backlog)

    def _deaf(self) -> None:
        if self._heard:
            self._heard = False
            self._truth.ears.closed()

    def _take_backlog(self) -> None:
        while self._backlog and self._socket.factory is not None:
            since, exchange = self._backlog.popleft()
            self._take(exchange, self._socket.factory, since)
