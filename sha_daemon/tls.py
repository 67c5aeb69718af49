"""TLS at the hub's door: its certificate, replaced while it runs, and the layer between socket and HTTP."""

import asyncio
import ssl
import time
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from sha_daemon.http_connection import Connection
from sha_daemon.validity import Validity, validity
from telemetry_common.settings import SettingsError

CLOSE_SECONDS = 5.0
"""For the other side's goodbye."""


class Certificate:
    """Certificate and key as what a handshake needs. Raises SettingsError where they are no pair that can be used.

    One that has expired can be: a hub that is up says what is wrong, and takes a renewed one without a restart.
    """

    def __init__(self, certificate: Path, key: Path, wall: Callable[[], float] = time.time) -> None:
        self.path = certificate
        self._key = key
        self._wall = wall
        self.context, self.validity = _loaded(certificate, key)

    def reload(self) -> str:
        """Serve what the files have now, from the next handshake on; connections keep what they have.

        In a context of its own: loading into one in service could leave it with half a pair. Raises SettingsError, and
        the running pair goes on: also where it is valid now and the new one is not.
        """
        context, validity = _loaded(self.path, self._key)
        objection = validity.objection(self._wall())
        if objection and not self.validity.objection(self._wall()):
            raise SettingsError(f"cannot use {self.path}: {objection}")
        self.context, self.validity = context, validity
        return str(self.path)

    def must_be_valid_now(self) -> None:
        """Raises SettingsError where nobody would trust it now."""
        if objection := self.validity.objection(self._wall()):
            raise SettingsError(f"cannot use {self.path}: {objection}")


def _loaded(certificate: Path, key: Path) -> tuple[ssl.SSLContext, Validity]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    for name, path in (("certificate", certificate), ("key", key)):
        _must_be_readable(name, path)
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except ssl.SSLError as error:
        reason = f" ({error.reason.lower().replace('_', ' ')})" if error.reason else ""
        complaint = f"cannot use {certificate} with {key} (tls.certificate, tls.key): expected PEM, and a pair{reason}"
        raise SettingsError(complaint) from None
    try:
        return context, validity(certificate.read_text("latin-1"))
    except ValueError as error:
        raise SettingsError(f"cannot use {certificate} (tls.certificate): {error}") from None


def _must_be_readable(name: str, path: Path) -> None:
    """OpenSSL names no file in its errors."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise SettingsError(f"cannot read {path} (tls.{name}): {error.strerror or error}") from None


def _no_passphrase() -> str:
    """Asked for by an encrypted key; without this OpenSSL would ask a terminal."""
    raise SettingsError("cannot use tls.key: it has a passphrase; expected a key without one")


class TlsConnection(SSLProtocol):
    """The TLS of one connection. asyncio's own, made here and not by its server for two reasons.

    Its buffer of 256 KiB a connection would be a gibibyte for 4,000 of them. And a connection counts from its first
    packet to its last, also when its handshake never ends or fails.
    """

    max_size = 16 << 10

    def __init__(self, loop: asyncio.AbstractEventLoop, http: Connection, context: ssl.SSLContext, handshake: float):
        options: dict[str, Any] = {
            "waiter": None,
            "server_side": True,
            "ssl_handshake_timeout": handshake,
            "ssl_shutdown_timeout": CLOSE_SECONDS,
        }
        super().__init__(loop, http, context, **options)
        self._http = http

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._http.wire = cast(asyncio.Transport, transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._http.gone()
