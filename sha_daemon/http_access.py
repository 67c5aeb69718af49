"""What stands before every route: the gate, by one rule for all of them, and room for bodies."""

from collections.abc import Iterable
from typing import cast
from urllib.parse import urlsplit

from aiohttp import web
from multidict import CIMultiDict, MultiMapping

from sha_daemon.gate import Gate
from sha_daemon.http_answers import PREFIX, Handler
from sha_daemon.http_bodies import PLACE, BodyRoom, room_needed
from sha_daemon.tokens import Right

HEALTH, DESCRIPTION, DOCS = f"{PREFIX}/health", f"{PREFIX}/openapi.json", f"{PREFIX}/docs"


def right_for(method: str, path: str) -> Right | None:
    """Reading needs `read`, everything else `report`.

    Health needs neither: a monitor must not need a secret. Nor does what is the same on every hub and tells of no job:
    a browser that opens a page has no token to show.
    """
    if path in (HEALTH, DESCRIPTION, DOCS):
        return None
    return "read" if method in ("GET", "HEAD") else "report"


def guarded(routes: Iterable[web.RouteDef], gate: Gate, room: BodyRoom) -> list[web.RouteDef]:
    """`routes`, each behind the gate; those that take a body also with room for it."""
    return [web.RouteDef(route.method, route.path, _guarded(route, gate, room), route.kwargs) for route in routes]


def _guarded(route: web.RouteDef, gate: Gate, room: BodyRoom) -> Handler:
    right = right_for(route.method, route.path)
    handler = cast(Handler, route.handler)  # a class is possible, too; the hub has none

    async def behind_the_gate(request: web.Request) -> web.StreamResponse:
        gate.admit(_called(request), right)
        return await handler(request)

    async def behind_the_gate_with_a_body(request: web.Request) -> web.StreamResponse:
        gate.admit(_called(request), right)
        needed = room_needed(request.headers)
        if not needed:
            return await handler(request)
        with room.place(needed) as place:
            request[PLACE] = place
            return await handler(request)

    return behind_the_gate if right != "report" else behind_the_gate_with_a_body


def _called(request: web.Request) -> MultiMapping[str]:
    """The headers. A target with a host of its own (`GET http://hub/path`) takes the place of Host, by RFC 9112."""
    if request.raw_path.startswith("/"):
        return request.headers
    headers = CIMultiDict(request.headers)
    headers["Host"] = urlsplit(request.raw_path).netloc
    return headers
