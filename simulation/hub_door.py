"""The hub's door without sockets: what listens, and the connections through which requests reach aiohttp."""

from collections.abc import Callable
from typing import Any, Protocol

from simulation.loop import VirtualLoop
from simulation.network import Exchange
from simulation.realm import Realm
from simulation.transport import MemoryTransport, Response


class Caller(Protocol):
    """The machine that a line belongs to."""

    loop: VirtualLoop

    def answered(self, line: "Line", exchange: Exchange, response: Response) -> None: ...

    def lost(self, line: "Line") -> None: ...


class ListeningSocket:
    """The listening socket. `factory` makes the daemon's end of a connection; None while nobody accepts."""

    def __init__(self, on_listening: Callable[[], None]) -> None:
        self.factory: Callable[[], Any] | None = None
        self._on_listening = on_listening

    def served_by(self, factory: Callable[[], Any]) -> "ListeningSocket":
        self.factory = factory
        self._on_listening()
        return self

    def listen(self, backlog: int) -> None:
        """It does so all the time."""

    def close(self) -> None:
        self.factory = None


class Line:
    """One connection, one request at a time."""

    def __init__(self, host: "Caller", realm: Realm, factory: Callable[[], Any], unread_seconds: float) -> None:
        self.open = True
        self.exchange: Exchange | None = None
        self._host = host
        self._realm = realm
        self._transport = MemoryTransport(unread_seconds, self._answered, self._closed)
        self._protocol = realm.call(factory)
        realm.call(self._protocol.connection_made, self._transport)

    def carry(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._realm.call(self._protocol.data_received, exchange.data)

    def _answered(self, response: Response) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None and self._realm.alive:
            self._host.answered(self, exchange, response)

    def _closed(self) -> None:
        self.open = False
        if self._realm.alive:
            self._realm.call(self._host.loop.call_soon, self._protocol.connection_lost, None)
        self._host.lost(self)
