"""A machine with a hub: the daemon as `sha_daemon.main` puts it together, its HTTP server included.

systemd keeps the listening socket while the daemon is down: who connects then waits for the next one.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from sha_daemon.app import Hub
from sha_daemon.config import HubSettings
from sha_daemon.gate import Gate
from sha_daemon.http_api import application
from sha_daemon.serving import served
from simulation.clocks import MachineClock
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


class Silence:
    """Instead of systemd, which wants nothing but to listen."""

    def notify(self, state: str) -> None: ...


class HubHost:
    """`on_answer` is called with each answer: to messages of which jobs, its status and content.

    `on_death` is called when the daemon has ended without having been asked to, with the reason."""

    def __init__(
        self,
        ground: Ground,
        name: str,
        server: Server,
        on_answer: Callable[[Sequence[str], int, bytes], None],
        on_death: Callable[[str], None],
    ) -> None:
        self.loop = ground.loop
        self.name = name
        self.clock = MachineClock(ground.loop)
        self.refuses = False
        self.hub: Hub | None = None
        self._server = server
        self._faults = ground.faults
        self._truth = ground.truth
        self._story = ground.story
        self._on_answer = on_answer
        self._on_death = on_death
        self._realm: Realm | None = None
        self._stop = asyncio.Event()
        self._socket = ListeningSocket(self._listening)
        self._heard = False
        self._lines: dict[Line, None] = {}
        self._idle: list[Line] = []
        self._backlog: deque[tuple[float, Exchange]] = deque()

    @property
    def up(self) -> bool:
        return self._realm is not None

    def start(self) -> None:
        """Nothing, if it runs."""
        if self._realm is not None:
            return
        self._story.note(f"{self.name} starts")
        self._realm = Realm(self.name)
        self._stop = asyncio.Event()
        self.loop.spawn(self._life(self._realm), self.name, self._realm)

    async def kill(self, within_steps: int = 0) -> None:
        """As kill -9 does it; in the midst of its work, when it has taken so many steps more."""
        if self._realm is not None and within_steps:
            await self.loop.doom(self._realm, within_steps)
            if self._faults.healed:
                return
        realm, self._realm = self._realm, None
        if realm is None:
            return
        self._socket.factory = None
        self._deaf()
        for line in list(self._lines):
            line.open = False
            self.lost(line)
        await realm.kill()

    async def stop(self) -> None:
        """As systemctl does it. Returns when it has ended."""
        realm = self._realm
        self._stop.set()
        while self._realm is realm and realm is not None:
            await asyncio.sleep(0.05)

    async def _life(self, realm: Realm) -> None:
        try:
            await self._serve(realm)
        except Exception as error:
            if realm.alive:
                self._on_death(f"{self.name} died of {error!r}")
        realm.over.set()
        if self._realm is realm:
            self._realm = None
            self._deaf()
            self._story.note(f"{self.name} has stopped")

    async def _serve(self, realm: Realm) -> None:
        """What `main` does, in its order."""
        settings, client = HubSettings(), Client(realm, self.clock)
        lifecycle = Lifecycle(Silence(), self.clock)
        hub = self.hub = Hub(
            settings, self.clock, lambda _, purpose: Connection(self._server, client, purpose), lifecycle
        )
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
            self._on_answer(exchange.job_ids, response.status, response.content)
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
