"""The listening socket and the HTTP server on it: taken over from systemd, or bound here."""

import asyncio
import errno
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from sha_daemon.certificate_watch import CertificateWatch
from sha_daemon.config import Listen, host_and_port
from sha_daemon.connections import Connections
from sha_daemon.descriptors import ACCEPTED_AT_ONCE, Exhaustion
from sha_daemon.http_answers import REJECTED
from sha_daemon.tls import Certificate
from telemetry_common.settings import SettingsError

BACKLOG = 1024
"""Connections that wait to be accepted: every sender of a large site reconnects at once after a restart."""

FAREWELL_SECONDS = 0.25
"""For senders to learn, by the answer to their next update, that the hub stops. A connection that is closed in the very
moment in which something arrives on it is reset, and what was said on it last may be lost on its way."""


_HINTS = {
    errno.EADDRINUSE: "; another program has it, perhaps a second hub (`ss -tlnp` names it): stop it, or set another "
    "listen.address",
    errno.EADDRNOTAVAIL: "; this machine has no such address (`ip address` lists those it has): set listen.address to "
    "one of them, or to 0.0.0.0:PORT for all",
    errno.EACCES: "; ports below 1024 are for root: set another port in listen.address",
}


def listening_socket(address: str, inherited: dict[str, list[socket.socket]]) -> socket.socket:
    """The socket systemd handed over if there is one (its address must be `address`), else a new one.

    Raises SettingsError, fit for the operator.
    """
    host, port = host_and_port(address)
    given = [sock for group in inherited.values() for sock in group]
    if not given:
        return _bind(host, port, address)
    if len(given) > 1:
        raise SettingsError(f"cannot start: systemd handed over {len(given)} sockets; sha-daemon.socket must have one")
    actual = given[0].getsockname()[:2]
    if actual != (host, port):
        raise SettingsError(
            f"cannot start: listen.address is {address}, but sha-daemon.socket listens on {actual[0]}:{actual[1]}; "
            "set the same address there (systemctl edit sha-daemon.socket)"
        )
    return given[0]


def _bind(host: str, port: int, address: str) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(f"cannot listen on {address}: {error.strerror or error}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise SettingsError(
            f"cannot listen on {address}: {error.strerror or error}{_HINTS.get(error.errno or 0, '')}"
        ) from None
    return sock


@asynccontextmanager
async def served(
    app: web.Application,
    sock: socket.socket,
    listen: Listen,
    *,
    certificate: Certificate | None = None,
    on_turned_away: Callable[[], None],
    stop_seconds: float,
) -> AsyncIterator[Connections]:
    """Serve `app` on `sock` within the block; leaving it waits for answers under way, at most `stop_seconds`.

    No more connections are then accepted: those that wait stay with the socket, which systemd keeps for the next hub.
    """
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=stop_seconds)
    await runner.setup()
    if runner.server is None:
        raise RuntimeError("the HTTP library made no server")
    connections = Connections(runner.server, listen, certificate, on_turned_away, app.get(REJECTED, Counter()))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(connections.sweep(), name="slow connections")]
        if certificate is not None:
            watch = CertificateWatch(certificate, time.time)
            tasks.append(group.create_task(watch.run(), name="certificate"))
        try:
            listening = await _listening(sock, connections, on_turned_away)
            try:
                yield connections
            finally:
                listening.close()
                await connections.emptied(min(FAREWELL_SECONDS, stop_seconds))
        finally:
            await runner.cleanup()
            for task in tasks:
                task.cancel()


async def _listening(
    sock: socket.socket, connections: Connections, on_turned_away: Callable[[], None]
) -> asyncio.AbstractServer:
    """asyncio takes one number for how many may wait and how many are accepted at once; here they are two."""
    loop, exhaustion = asyncio.get_running_loop(), Exhaustion(on_turned_away)

    def accept() -> asyncio.BaseProtocol:
        exhaustion.over()
        return connections.accept()

    loop.set_exception_handler(exhaustion.handle)
    listening = await loop.create_server(accept, sock=sock, backlog=ACCEPTED_AT_ONCE)
    sock.listen(BACKLOG)
    return listening
