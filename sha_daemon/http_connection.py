"""One connection of the HTTP server: aiohttp's, which also knows since when it waits for the other side.

aiohttp closes a connection that lies idle. It has no time limit for the head of a request that comes in drops, nor for
an answer that nobody takes, and answers in plain text what is not HTTP at all, or asks for no path.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from sha_daemon.http_answers import SERVER, Rejected, told
from sha_daemon.replies import Problem
from sha_daemon.waited import unread_seconds
from telemetry_common.text import printable

MAX_LINE_BYTES = 4096
"""Of the request line: a path of the hub with its query is a tenth of it."""
MAX_FIELD_BYTES = 8192
"""Of one header field: a browser may bring the cookies of everything else on this machine."""
MAX_FIELDS = 64
READ_BYTES = 64 << 10
"""At once. asyncio's own 256 KiB are taken from the system and given back for every read, however little comes; with
several threads each of these stops all of them."""
WRITE_BUFFER_BYTES = 16 << 10
"""What waits here for a slow reader before whoever writes to it has to wait, and its next request with it."""
SEND_BUFFER_BYTES = 64 << 10
"""Of the kernel, which takes twice that, per connection: left to itself it grows to MiB for a reader that does not
read, and it counts in the unit's memory. With less, a segment on loopback waits until the one before is acknowledged.
"""
LIMITS: dict[str, Any] = {
    "max_line_size": MAX_LINE_BYTES,
    "max_field_size": MAX_FIELD_BYTES,
    "max_headers": MAX_FIELDS,
    "read_bufsize": READ_BYTES,
    # The rest of a body that was refused unread is awaited for so long: who reads only when all is written would miss
    # the answer. It is also waited for when the hub stops, whoever hung up meanwhile.
    "lingering_time": 2.0,
    # Bodies are inflated by `content_encoding`, which bounds what comes out.
    "auto_decompress": False,
    "access_log": None,
}
"""Of every connection, beside what aiohttp itself bounds: it takes no more than 32 requests out of what was read."""


class Connection(web.RequestHandler):
    """`on_gone` is called once the connection is closed; with TLS by the layer below, which sees more."""

    __slots__ = ("_head_since", "_on_gone", "_rejected", "_stalled_since", "_unread_seconds", "_unsent_before", "wire")

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        keepalive_seconds: float,
        on_gone: "Callable[[Connection], None]",
        rejected: Rejected,
    ) -> None:
        super().__init__(server, loop=loop, keepalive_timeout=keepalive_seconds, **LIMITS)
        self.wire: asyncio.Transport | None = None
        self._on_gone = on_gone
        self._rejected = rejected
        self._stalled_since = loop.time()
        self._head_since: float | None = self._stalled_since
        self._unsent_before = 0
        self._unread_seconds: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        stream.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        if hasattr(stream, "max_size"):  # asyncio's own transports have it
            stream.max_size = READ_BYTES
        self.wire = self.wire or stream
        connection = stream.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        super().connection_made(transport)

    @property
    def waited_seconds(self) -> float:
        """For how long the request in hand had been there before anybody could read it."""
        return self._unread_seconds or 0.0 if self._request_count <= 1 else 0.0

    def _since_it_came(self) -> float:
        """With TLS nothing can have been said before the hub took part in it."""
        connection = self.wire.get_extra_info("socket") if self.wire is self.transport and self.wire else None
        return 0.0 if connection is None else unread_seconds(connection)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.gone()

    def gone(self) -> None:
        self._on_gone(self)

    def data_received(self, data: bytes) -> None:
        heads = self._request_count
        if self._unread_seconds is None:
            self._unread_seconds = self._since_it_came()
        super().data_received(data)
        if self._request_count != heads:
            self._head_since = None
            if not isinstance(self._messages[-1][0], RawRequestMessage):
                self._body_breaks()
        elif self._head_since is None and data and self._waits_for_a_head():
            self._head_since = self._loop.time()
        if self._messages and self._waiter is None and not self._buffer_paused:
            self._pause_reading_for_buffer()  # behind the request in hand one waits: 31 more with bodies would be MiB

    def _body_breaks(self) -> None:
        """What came is no HTTP. In the middle of a body this whoever reads it is told, else they would wait in vain."""
        if len(self._messages) > 1:
            body = self._messages[-2][1]
        elif self._current_request is not None:
            body = self._current_request.content
        else:
            return
        if not body.is_eof():
            error, _ = self._messages.pop()
            body.set_exception(getattr(error, "exc", BadHttpMessage("the body breaks")))
            body.feed_eof()
            self.close()

    def _waits_for_a_head(self) -> bool:
        """No request is in hand: what comes in, short of a whole head, is the beginning of one."""
        return self._waiter is not None and not self._waiter.done()

    def late(self, now: float, seconds: float) -> bool:
        """Whether it has kept the hub waiting for `seconds`, judged by this look and those before it.

        For the head of a request, or by not taking its answer. A stream that stays open is never late by being open.
        """
        unsent = self.wire.get_write_buffer_size() if self.wire is not None else 0
        if unsent == 0 or unsent < self._unsent_before:
            self._stalled_since = now
        self._unsent_before = unsent
        since = self._stalled_since if self._head_since is None else min(self._stalled_since, self._head_since)
        return now - since > seconds

    def cut_off(self) -> None:
        """At once, whatever waits to be sent."""
        if self.wire is not None:
            self.wire.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp would answer in plain text: bytes that are no request, above all."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way; no other can be sent")
        answer = told(request, _problem(status, exc), self._rejected)
        answer.headers["Server"] = SERVER
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Also where no route could take the request: its target is no path, as in `OPTIONS *` and `CONNECT a:80`."""
        if isinstance(resp, web.HTTPException):
            resp = told(request, _NO_PATH, self._rejected)
        return await super().finish_response(request, resp, start_time)


_NO_PATH = Problem(405, "the target of a request must be a path of the hub", {"Allow": "GET, HEAD, POST"})


def _problem(status: int, error: BaseException | None) -> Problem:
    if isinstance(error, LineTooLong):
        if error.args[1] == MAX_LINE_BYTES:
            return Problem(414, f"the request line is over {MAX_LINE_BYTES} bytes")
        return Problem(431, f"a header field is over {MAX_FIELD_BYTES} bytes")
    if isinstance(error, BadHttpMessage):
        if "many headers" in error.message:
            return Problem(431, f"there are more than {MAX_FIELDS} header fields")
        reason = error.message.partition("\n")[0].rstrip(" :")
        return Problem(400, f"this is not an HTTP request: {printable(reason)}")
    return Problem(status, "the hub failed; its journal has the reason; try again")
