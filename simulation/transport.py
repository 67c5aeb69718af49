"""HTTP without sockets: bytes into aiohttp's own server protocol, and its answers out of it."""

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

_KEPT_HEADERS = ("telemetry-result", "telemetry-seq", "telemetry-status", "retry-after", "location")
_HOST = "127.0.0.1:8082"


class Response(Struct, frozen=True):
    """As `hub_link` hands one to those who read it. `last`: the connection is closed behind it."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    last: bool


class Answered(Struct):
    """What became of one message: as the headers of a single answer say it, or an item of a batch's."""

    status: int
    result: str = ""


_items = msgspec.json.Decoder(list[Answered])


def answers(response: Response) -> list[Answered]:
    """One for each message of the request, in order. A batch that was not taken as a whole has one for all."""
    if response.status == 200:
        return _items.decode(response.content)
    return [Answered(response.status, response.headers.get("telemetry-result", ""))]


def request(path: str, body: bytes | None, content_type: str = "application/json") -> bytes:
    if body is None:
        return f"GET /api/v1/{path} HTTP/1.1\r\nHost: {_HOST}\r\n\r\n".encode()
    head = f"POST /api/v1/{path} HTTP/1.1\r\nHost: {_HOST}\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def job_path(job_id: str) -> str:
    return f"telemetry/backup/{quote(job_id, safe='')}"


class _Kernel:
    """What the hub may ask of a connection's socket: here only for how long what is on it has waited."""

    family = socket.AF_UNIX
    """There is no Nagle to be switched off."""

    def __init__(self, unread_seconds: float) -> None:
        self._unread_seconds = unread_seconds

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        return struct.pack(f"={size - 4}xI", int(self._unread_seconds * 1000))

    def setsockopt(self, level: int, option: int, value: int) -> None: ...


class MemoryTransport(asyncio.Transport):
    """The hub's end of a connection, with a request that has waited there.

    `answered` is called with each whole response, `closed` once.
    """

    def __init__(self, unread_seconds: float, answered: Callable[[Response], None], closed: Callable[[], None]) -> None:
        super().__init__()
        self._kernel = _Kernel(unread_seconds)
        self._answered = answered
        self._on_closed = closed
        self._written = b""
        self._closing = False

    def write(self, data: Any) -> None:
        if self._closing:
            return
        self._written += bytes(data)
        response, used = _parsed(self._written)
        if response is not None:
            self._written = self._written[used:]
            self._answered(response)

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._on_closed()

    abort = close

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return self._kernel
        return ("127.0.0.1", 50000) if name in ("peername", "sockname") else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Everything is taken at once."""

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """One request at a time is sent, and it is there as a whole."""

    def resume_reading(self) -> None: ...

    def is_reading(self) -> bool:
        return True


def _parsed(data: bytes) -> tuple[Response | None, int]:
    """The first response, if all of it is there, and how many bytes it takes."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None, 0
    lines = data[:end].decode("latin-1").split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    length = int(fields.get("content-length", "0"))
    if len(data) < end + 4 + length:
        return None, 0
    status = int(lines[0].split(" ", 2)[1])
    headers = {name: fields[name] for name in _KEPT_HEADERS if name in fields}
    last = fields.get("connection", "").lower() == "close"
    return Response(status, headers, data[end + 4 : end + 4 + length], last), end + 4 + length
