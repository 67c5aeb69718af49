"""What stands before every route: the gate, by one rule for all of them, and room for large bodies."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from aiohttp import web

from sha_daemon.gate import Gate
from sha_daemon.http_answers import PREFIX, Handler
from sha_daemon.replies import unavailable
from sha_daemon.tokens import Right

HEALTH, DESCRIPTION, DOCS = f"{PREFIX}/health", f"{PREFIX}/openapi.json", f"{PREFIX}/docs"
LARGE_DIGITS = 6
"""Of a Content-Length: from 100,000 bytes on a body is large. An update has some hundred."""
LARGE_AT_ONCE = 64
"""Beyond it senders get 503: else as many mebibytes as there may be connections could lie in memory."""


class Room:
    """For requests with a large body, or one of unknown length, from their head to their answer."""

    def __init__(self, on_turned_away: Callable[[], None], places: int = LARGE_AT_ONCE) -> None:
        self._on_turned_away = on_turned_away
        self._free = places

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place within the block. Raises Problem (503) if there is none."""
        if not self._free:
            self._on_turned_away()
            raise unavailable("the hub is receiving as many large bodies as it takes; try again", "large_bodies")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


def right_for(method: str, path: str) -> Right | None:
    """Reading needs `read`, everything else `report`.

    Health needs neither: a monitor must not need a secret. Nor does what is the same on every hub and tells of no job:
    a browser that opens a page has no token to show.
    """
    if path in (HEALTH, DESCRIPTION, DOCS):
        return None
    return "read" if method in ("GET", "HEAD") else "report"


def guarded(routes: Iterable[web.RouteDef], gate: Gate, room: Room) -> list[web.RouteDef]:
    """`routes`, each behind the gate; those that take a body also with room for it."""
    return [web.RouteDef(route.method, route.path, _guarded(route, gate, room), route.kwargs) for route in routes]


def _guarded(route: web.RouteDef, gate: Gate, room: Room) -> Handler:
    right = right_for(route.method, route.path)
    handler = cast(Handler, route.handler)  # a class is possible, too; the hub has none

    async def behind_the_gate(request: web.Request) -> web.StreamResponse:
        gate.admit(request.headers, right)
        return await handler(request)

    async def behind_the_gate_with_a_body(request: web.Request) -> web.StreamResponse:
        headers = request.headers
        gate.admit(headers, right)
        if not _is_large(headers):
            return await handler(request)
        with room.one():
            return await handler(request)

    return behind_the_gate if right != "report" else behind_the_gate_with_a_body


def _is_large(headers: Mapping[str, str]) -> bool:
    return len(headers.get("Content-Length", "unknown")) >= LARGE_DIGITS
