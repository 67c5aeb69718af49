"""The route where readers follow the changes: Server-Sent Events, written to each connection without waiting for it."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiohttp import HttpVersion11, web

from sha_daemon import queries
from sha_daemon.http_answers import PREFIX
from sha_daemon.job_types import BACKUP
from sha_daemon.replies import Problem
from sha_daemon.stream import Stream
from sha_daemon.stream_events import MEDIA_TYPE
from sha_daemon.stream_ring import Key
from sha_daemon.stream_subscribers import BEHIND_SECONDS, Subscriber

HEADERS = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The last is for a proxy that would else keep events back until it has a buffer full."""


def routes(stream: Stream) -> Iterable[web.RouteDef]:
    async def follow(request: web.Request) -> web.StreamResponse:
        key = _asked(request.query)
        if request.method == "HEAD":
            return web.Response(headers=HEADERS)
        with stream.place():
            return await _followed(stream, request, key)

    return [web.get(f"{PREFIX}/telemetry/stream", follow)]


def ending(stream: Stream) -> Callable[[web.Application], Awaitable[None]]:
    """For `on_shutdown`: readers who would stay for ever must not hold up those who wait for an answer."""

    async def end(_: web.Application) -> None:
        stream.stop()

    return end


def _asked(query: Mapping[str, str]) -> Key | None:
    queries.only(query, "job_id", "job_type")
    if "job_id" in query:
        return query.get("job_type", BACKUP.name), query["job_id"]
    if "job_type" in query:
        raise Problem(400, "`job_type` needs a `job_id` beside it; without both, all jobs are followed")
    return None


async def _followed(stream: Stream, request: web.Request, key: Key | None) -> web.StreamResponse:
    opening = await stream.opening(key, request.headers.get("Last-Event-ID"))
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the reader has left")
    answer = _begun(request)
    subscriber = Subscriber(_Wire(transport, chunked=answer.chunked), key)
    with stream.subscribers.joined(subscriber):
        place = opening.place
        if not await _given(request, answer, opening.texts):
            stream.subscribers.drop(subscriber)
        # The snapshot of thousands of jobs must not be kept for as long as its reader stays.
        del opening
        await stream.follow(subscriber, place)
    return answer


def _begun(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers=HEADERS)
    answer.force_close()
    if request.version >= HttpVersion11:
        answer.enable_chunked_encoding()
    return answer


async def _given(request: web.Request, answer: web.StreamResponse, texts: Iterable[bytes]) -> bool:
    """Send what comes first, at the reader's own pace. False where that is too slow, or the reader has left."""
    try:
        await answer.prepare(request)
        for text in texts:
            async with asyncio.timeout(BEHIND_SECONDS):
                await answer.write(text)
                await request.writer.drain()
    except (TimeoutError, ConnectionError):
        return False
    return True


class _Wire:
    """Implements `stream_subscribers.Wire` on a connection of the HTTP library, which has sent the answer's head."""

    def __init__(self, transport: asyncio.Transport, *, chunked: bool) -> None:
        self._transport = transport
        self._chunked = chunked

    def write(self, text: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(_chunk(text) if self._chunked else text)

    def waiting(self) -> int:
        if self.gone():  # the layer of TLS no longer knows
            return 0
        return self._transport.get_write_buffer_size()

    def gone(self) -> bool:
        return self._transport.is_closing()

    def abort(self) -> None:
        self._transport.abort()


@functools.lru_cache(maxsize=16)
def _chunk(text: bytes) -> bytes:
    """As a chunk of HTTP/1.1. Kept: a thousand readers are written the very same text."""
    return b"%x\r\n%b\r\n" % (len(text), text)
