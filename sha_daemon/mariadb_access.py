"""How the hub comes to a connection: to which server, whom it trusts there, and how it logs in.

Locally over the Unix socket, where MariaDB knows the system user and there is no password; to a remote server over TCP,
with a password and TLS. What lies in files is read at the start and on SIGHUP.
"""

import errno
import logging
import os
import pwd
import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pymysql
from pymysql.constants import CLIENT, FIELD_TYPE
from pymysql.converters import conversions

from sha_daemon.config import DatabaseSettings
from sha_daemon.database import DatabaseAway
from sha_daemon.database_password import read_password
from sha_daemon.rows import JsonText
from sha_daemon.servers import Server, Servers, server
from telemetry_common.logs import fields
from telemetry_common.trust import trusting

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
"""To a remote server that does not even refuse; the next one is tried then."""
_NO_NETWORK = frozenset({errno.ENETUNREACH, errno.EAFNOSUPPORT, errno.EPERM, errno.EACCES})
"""What a unit without a network gets."""
_CONVERSIONS = conversions | {
    FIELD_TYPE.DECIMAL: float,
    FIELD_TYPE.NEWDECIMAL: float,
    JsonText: lambda value, _: value.literal(),
}


class MariaAccess:
    """Raises SettingsError where a file that the settings name cannot be used; on a reload what runs then goes on."""

    def __init__(self, settings: DatabaseSettings, environ: Mapping[str, str] = os.environ) -> None:
        self.settings = settings
        self._environ = environ
        self.schema_doubts = 0
        """How often a connection has met tables that were not as it had found them."""
        self.servers = Servers([server(host) for host in settings.hosts] or [Server("", 0, settings.socket)])
        self._password = self._read_password()
        self._tls = self._read_trust()

    @property
    def reloadable(self) -> Mapping[str, Callable[[], str]]:
        """What reads its file again, by its name in the journal; for connections that are made from then on."""
        parts: dict[str, Callable[[], str]] = {}
        if self.settings.password_file:
            parts["database password"] = self._reload_password
        if self._tls is not None:
            parts["CAs of the database"] = self._reload_trust
        return parts

    def serves(self, one: Server) -> None:
        if self.servers.serves(one):
            log.warning(fields("another database server is in use", server=one))

    def connect(self, to: Server, *, daemon: bool, patient: bool = False) -> "pymysql.Connection[Any]":
        """As the daemon: in its database and in transactions. Otherwise as an administrator: in no database, each
        statement for itself; locally that is the system user who asks. A `patient` connection waits for an answer as
        long as it takes. Raises DatabaseAway, pymysql.Error, OSError.
        """
        patience = None if patient else self.settings.timeout_seconds
        as_self = not to.host and not daemon
        connection: pymysql.Connection[Any] = pymysql.connect(
            host=to.host or None,
            user=pwd.getpwuid(os.geteuid()).pw_name if as_self else self.settings.user,
            password=self._password if to.host else "",
            database=self.settings.name if daemon else None,
            charset="utf8mb4",
            autocommit=not daemon,
            client_flag=CLIENT.FOUND_ROWS,
            read_timeout=patience,
            write_timeout=patience,
            conv=_CONVERSIONS,
            # Left alone, PyMySQL would take any certificate, and go on in clear where the server offers no TLS.
            ssl=self._tls if to.host else None,
            ssl_disabled=not to.host or self._tls is None,
            defer_connect=True,
        )
        connection.connect(self._dialled(to))
        return connection

    def _dialled(self, to: Server) -> socket.socket:
        """PyMySQL would forget to close the socket where nobody answers, and name the wrong address in its error."""
        try:
            return self._remote(to) if to.host else self._local(to)
        except OSError as error:
            reason = error.strerror or str(error)
            raise DatabaseAway(f"cannot reach MariaDB at {to}: {reason}{_advice(to, error)}") from error

    def _local(self, to: Server) -> socket.socket:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            channel.settimeout(self.settings.timeout_seconds)
            channel.connect(to.socket)
        except OSError:
            channel.close()
            raise
        return channel

    def _remote(self, to: Server) -> socket.socket:
        seconds = min(CONNECT_SECONDS, self.settings.timeout_seconds)
        channel = socket.create_connection((to.host, to.port), timeout=seconds)
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return channel

    def _read_password(self) -> str:
        path = self.settings.password_file
        return read_password(Path(path), self._environ) if path else ""

    def _read_trust(self) -> ssl.SSLContext | None:
        return trusting(self.settings.ca_file) if self.settings.hosts and self.settings.tls else None

    def _reload_password(self) -> str:
        before, self._password = self._password, self._read_password()
        return "as it was" if self._password == before else "another one"

    def _reload_trust(self) -> str:
        self._tls = self._read_trust()
        return self.settings.ca_file or "the system's"


def _advice(to: Server, error: OSError) -> str:
    if not to.host:
        return "; is it running?"
    if isinstance(error, socket.gaierror) or error.errno in _NO_NETWORK:
        return "; has the hub's unit a network (the drop-in for a remote database)?"
    return ""
