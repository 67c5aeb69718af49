"""What `sbcctl` asks: HTTP on a Unix socket. Knows nothing of the daemon's inside; it is handed what answers.

Whoever may open the socket may ask. What changes anything is for root and the daemon's own user: producers of the
group could else delete or repeat what others reported.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import web

from sbc_daemon.outbox import DeadLetter, OutboxFull
from sbc_daemon.processes import peer_of
from sbc_daemon.status import MAX_LETTERS, Changed, Letter, Status

SOCKET_MODE = 0o660
BACKLOG = 8
"""Out of descriptors, asyncio tries to accept so many times in a row and logs a traceback for each: keep it small."""
MAX_CONNECTIONS = 32
"""At once. For one more the oldest goes: who holds connections must not keep the operator out, nor take the descriptors
that producers and the way to the hub need."""
STOP_SECONDS = 1.0
_ONE = "/dead-letters/{letter_id:[0-9]{1,18}}"


class Letters(Protocol):
    """What can be done with dead letters; all raise OutboxFull where the disk does not let them."""

    async def all(self) -> Sequence[DeadLetter]: ...

    async def retry(self, letter_ids: Sequence[int] | None, uid: int) -> Mapping[int, str]:
        """Those that go out again, and their jobs. None: all."""

    async def delete(self, letter_ids: Sequence[int] | None, uid: int) -> Sequence[int]:
        """Those that there were. None: all."""


class ControlServer:
    """`inherited` is the socket that systemd made, if it did; else `path` is bound, mode 0660."""

    def __init__(
        self,
        status: Callable[[], Awaitable[Status]],
        letters: Letters,
        uid_of: Callable[[web.Request], int] | None = None,
    ) -> None:
        self._status = status
        self._letters = letters
        self._uid_of = uid_of or peer_uid
        app = web.Application(client_max_size=4096)
        app.router.add_get("/status", self._get_status)
        app.router.add_get("/dead-letters", self._list_letters)
        app.router.add_get(_ONE, self._get_letter)
        app.router.add_post("/dead-letters/retry", self._retry)
        app.router.add_post(_ONE + "/retry", self._retry)
        app.router.add_delete("/dead-letters", self._delete)
        app.router.add_delete(_ONE, self._delete)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS)
        self._server: asyncio.Server | None = None
        self._bound: Path | None = None

    async def start(self, path: Path, inherited: socket.socket | None = None) -> None:
        """Raises OSError where the socket cannot be made."""
        await self._runner.setup()
        if inherited is None:
            inherited = bind(path)
            self._bound = path
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._newcomer, sock=inherited, backlog=BACKLOG)

    async def close(self) -> None:
        """A socket file that was bound here goes; one of systemd's stays."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()
        if self._bound is not None:
            with contextlib.suppress(OSError):
                self._bound.unlink()

    def _newcomer(self) -> asyncio.Protocol:
        """What serves a connection that was just accepted."""
        server = self._runner.server
        if server is None:
            raise RuntimeError("the control socket is served only between start and close")
        open_ones = server.connections
        for oldest in open_ones[: max(0, len(open_ones) - MAX_CONNECTIONS + 1)]:
            oldest.force_close()
        return server()

    async def _get_status(self, _request: web.Request) -> web.Response:
        return _json(await self._status())

    async def _list_letters(self, _request: web.Request) -> web.Response:
        with _told():
            return _json([_shown(letter) for letter in (await self._letters.all())[:MAX_LETTERS]])

    async def _get_letter(self, request: web.Request) -> web.Response:
        return _json(_shown(await self._letter(request)))

    async def _retry(self, request: web.Request) -> web.Response:
        uid, wanted = self._allowed(request), await self._wanted(request)
        with _told():
            sent = await self._letters.retry(wanted, uid)
        if wanted and not sent:
            raise web.HTTPConflict(
                text=f"cannot send dead letter {wanted[0]} again: it cannot be read as a message; delete it"
            )
        return _json(Changed(letter_ids=tuple(sent)))

    async def _delete(self, request: web.Request) -> web.Response:
        uid, wanted = self._allowed(request), await self._wanted(request)
        with _told():
            return _json(Changed(letter_ids=tuple(await self._letters.delete(wanted, uid))))

    async def _wanted(self, request: web.Request) -> list[int] | None:
        """The letter that the path names, if there is such a one; None where it names none: all."""
        return [(await self._letter(request)).letter_id] if "letter_id" in request.match_info else None

    async def _letter(self, request: web.Request) -> DeadLetter:
        wanted = int(request.match_info["letter_id"])
        with _told():
            for letter in await self._letters.all():
                if letter.letter_id == wanted:
                    return letter
        raise web.HTTPNotFound(text=f"there is no dead letter with the number {wanted}")

    def _allowed(self, request: web.Request) -> int:
        """Who asks, if that is somebody who may change something."""
        uid = self._uid_of(request)
        if uid not in (0, os.geteuid()):
            raise web.HTTPForbidden(text="cannot change dead letters: only root and the daemon's own user may")
        return uid


def peer_uid(request: web.Request) -> int:
    """The user at the other end, as the kernel says; -1, which is nobody, where there is no socket any more."""
    connection = request.transport and request.transport.get_extra_info("socket")
    return peer_of(connection).uid if connection else -1


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
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
