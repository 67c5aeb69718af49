"""Bodies on their way in: read within a time, and within a room in bytes for all connections together."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import MultiMapping

from sha_daemon.replies import Problem, unavailable
from telemetry_common.contract import MAX_BODY_BYTES

BODY_SECONDS = 30.0
"""For the whole of a body: a sender that takes longer is cut off, it keeps a connection from others."""
COUNTED_BYTES = 8 << 10
"""From here on a body needs room. An update has some hundred bytes: all connections together hold little of those."""
FIRST_BYTES = 32 << 10
"""What a body is charged at most before it comes; beyond it, for what has come. Else 64 senders that announce a
mebibyte and send nothing would keep all others away."""
ROOM_BYTES = 64 << 20
"""Beyond it senders get 503: else as many mebibytes as there may be connections could lie in memory."""
_COUNTED_DIGITS = len(str(COUNTED_BYTES))


class Place:
    """What one body is charged, which only grows."""

    def __init__(self, room: "BodyRoom") -> None:
        self._room = room
        self.charged = 0

    def reach(self, size: int) -> None:
        """The body needs room for `size` bytes. Raises Problem (503) if there is none."""
        if size > self.charged:
            self._room.take(size - self.charged)
            self.charged = size


PLACE: web.RequestKey[Place] = web.RequestKey("place", Place)


class BodyRoom:
    """For requests with a body that is not small, from their head to their answer."""

    def __init__(self, on_turned_away: Callable[[], None], most_bytes: int = ROOM_BYTES) -> None:
        self._on_turned_away = on_turned_away
        self._free = most_bytes

    @contextmanager
    def place(self, size: int) -> Iterator[Place]:
        """Room for `size` bytes within the block, and for what the body grows to. Raises Problem (503) if none is."""
        place = Place(self)
        place.reach(size)
        try:
            yield place
        finally:
            self._free += place.charged

    def take(self, size: int) -> None:
        if size > self._free:
            self._on_turned_away()
            raise unavailable("the hub is receiving as many large bodies as it takes; try again", "large_bodies")
        self._free -= size


def room_needed(headers: MultiMapping[str]) -> int:
    """Bytes that the body of this request is charged at first; 0 for a small one.

    Raises Problem (400) for a Transfer-Encoding that would have to be taken off the body.
    """
    said = headers.get("Content-Length")
    if said is None:
        return _unknown_length(headers)
    if len(said) < _COUNTED_DIGITS:
        return 0
    size = int(said)
    return min(size, FIRST_BYTES) if size >= COUNTED_BYTES else 0


def _unknown_length(headers: MultiMapping[str]) -> int:
    codings = headers.getall("Transfer-Encoding", [])
    if codings and (len(codings) > 1 or codings[0].lower() != "chunked"):
        raise Problem(
            400, "Transfer-Encoding must be chunked and nothing else; Content-Encoding may be gzip or deflate"
        )
    return FIRST_BYTES if codings else 0


async def body_of(request: web.Request) -> bytes:
    """The whole of it. Raises Problem: 400, 408, 503; HTTPException for one that is too large."""
    try:
        if request.content.is_eof():
            return _charged(request, await request.read())  # it is all there: a timer would be made for nothing
        async with asyncio.timeout(BODY_SECONDS):
            return await _arriving(request)
    except TimeoutError:
        raise Problem(408, f"the body did not arrive within {BODY_SECONDS:.0f} s") from None
    except (web.RequestPayloadError, HttpProcessingError):
        raise Problem(400, "the body does not come as its Content-Length or Transfer-Encoding says") from None


def _charged(request: web.Request, body: bytes) -> bytes:
    if len(body) > FIRST_BYTES:
        request[PLACE].reach(len(body))
    return body


async def _arriving(request: web.Request) -> bytes:
    """Its room grows with it."""
    place = request.get(PLACE)
    if place is None:
        return await request.read()
    body = bytearray()
    while piece := await request.content.readany():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, len(body))
        place.reach(len(body))
    return bytes(body)
