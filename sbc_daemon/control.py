"""What `sbcctl` asks: HTTP on a Unix socket. Knows nothing of the daemon's inside; it is handed what answers.

Whoever may open the socket may ask. There is nothing here that changes anything.
"""

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
from aiohttp import web

from sbc_daemon.outbox import DeadLetter, OutboxFull
from sbc_daemon.status import Letter, Status

SOCKET_MODE = 0o660
BACKLOG = 8
"""Out of descriptors, asyncio tries to accept so many times in a row and logs a traceback for each: keep it small."""
STOP_SECONDS = 1.0
MAX_LETTERS = 1000
"""In one list; the oldest first."""


class ControlServer:
    """`inherited` is the socket that systemd made, if it did; else `path` is bound, mode 0660."""

    def __init__(
        self,
        status: Callable[[], Awaitable[Status]],
        dead_letters: Callable[[], Awaitable[Sequence[DeadLetter]]],
    ) -> None:
        self._status = status
        self._dead_letters = dead_letters
        app = web.Application(client_max_size=4096)
        app.router.add_get("/status", self._get_status)
        app.router.add_get("/dead-letters", self._list_letters)
        app.router.add_get("/dead-letters/{letter_id:[0-9]{1,18}}", self._get_letter)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS)
        self._bound: Path | None = None

    async def start(self, path: Path, inherited: socket.socket | None = None) -> None:
        """Raises OSError where the socket cannot be made."""
        await self._runner.setup()
        if inherited is None:
            inherited = bind(path)
            self._bound = path
        await web.SockSite(self._runner, inherited, backlog=BACKLOG).start()

    async def close(self) -> None:
        """A socket file that was bound here goes; one of systemd's stays."""
        await self._runner.cleanup()
        if self._bound is not None:
            with contextlib.suppress(OSError):
                self._bound.unlink()

    async def _get_status(self, _request: web.Request) -> web.Response:
        return _json(await self._status())

    async def _list_letters(self, _request: web.Request) -> web.Response:
        return _json([_shown(letter) for letter in await self._letters()])

    async def _get_letter(self, request: web.Request) -> web.Response:
        wanted = int(request.match_info["letter_id"])
        for letter in await self._letters():
            if letter.letter_id == wanted:
                return _json(_shown(letter))
        raise web.HTTPNotFound(text=f"cannot show dead letter {wanted}: there is none with this number")

    async def _letters(self) -> Sequence[DeadLetter]:
        try:
            return (await self._dead_letters())[:MAX_LETTERS]
        except OutboxFull as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from None


def bind(path: Path) -> socket.socket:
    """A listening Unix socket, mode 0660 from its first moment; one left behind by a dead daemon is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        listener.bind(str(fresh))
        fresh.chmod(SOCKET_MODE)
        listener.listen(BACKLOG)
        fresh.rename(path)
    except OSError:
        listener.close()
        raise
    return listener


def _shown(letter: DeadLetter) -> Letter:
    return Letter(
        letter_id=letter.letter_id,
        job_id=letter.job_id,
        seq=letter.seq,
        status=letter.status,
        reason=letter.reason,
        at=letter.at,
        body=letter.body.decode("utf-8", "replace"),
    )


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
