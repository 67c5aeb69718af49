"""The answer to nearly every request: 204, written in one piece.

Half of the HTTP library's time for a small request goes into building a response that could be anything. This one can
be one thing only, so it is written as it stands.
"""

import email.utils
import functools
import time
from collections.abc import Mapping

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter


class Acknowledgement(web.StreamResponse):
    """`fields` are headers whose names and values are ours: what a sender said must not reach them."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(status=204)
        self.fields = fields

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write it. Raises ConnectionResetError where nobody is there to read it."""
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the sender hung up before its answer")
        self._keep_alive = request.keep_alive and request.version >= HttpVersion11
        fields = {"Date": _date(int(time.time())), **self.fields}
        if not self._keep_alive:
            fields["Connection"] = "close"
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        request.transport.write(f"HTTP/1.1 204 No Content\r\n{lines}\r\n".encode("ascii"))
        await request.writer.drain()
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """There is nothing more to write."""


@functools.lru_cache(maxsize=2)
def _date(second: int) -> str:
    return email.utils.formatdate(second, usegmt=True)
