"""A database server that is reached over TCP, with TLS and a password, as one on another machine would be."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sha_daemon import migrations, provisioning
from sha_daemon.config import DatabaseSettings
from sha_daemon.mariadb import connect
from testbed.mariadb import PrivateMariaDB
from testbed.processes import free_port
from tests.support import certificates
from tests.support.certificates import Pair

DATABASE, USER, PASSWORD = "hub", "sha", "it's \\a\" secret"
NAMES = "DNS:localhost,IP:127.0.0.1"


class RemoteServer:
    """`address` is what `database.hosts` would say of it."""

    def __init__(self, server: PrivateMariaDB, port: int) -> None:
        self.server = server
        self.address = f"localhost:{port}"
        self._local = DatabaseSettings(name=DATABASE, user=server.user, socket=str(server.socket))

    def provide(self, *, with_tls: bool = True) -> None:
        """What its administrator does, by the very statements that `shactl db setup` prints; then the tables."""
        said = provisioning.elsewhere(DATABASE, USER, with_tls=with_tls)
        with self.server.connect() as connection, connection.cursor() as cursor:
            for statement in _statements(said):
                cursor.execute(statement)
            cursor.execute("SET PASSWORD FOR 'sha'@'%%' = PASSWORD(%s)", (PASSWORD,))
        link = connect(self._local, daemon=False)
        migrations.apply(link, DATABASE, migrations.known())
        link.close()

    def sql(self, statement: str) -> tuple[tuple[object, ...], ...]:
        with self.server.connect(DATABASE) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return tuple(cursor.fetchall())


def _statements(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [statement for statement in map(str.strip, " ".join(lines).split(";")) if statement]


@contextmanager
def remote_server(directory: Path, ca: Pair | None) -> Iterator[RemoteServer]:
    """Without a `ca` it speaks no TLS."""
    directory.mkdir()
    port = free_port()
    network = ("--skip-networking=0", "--bind-address=127.0.0.1", f"--port={port}")
    with PrivateMariaDB(directory / "db", *network, *(_tls(directory, ca) if ca else ("--skip-ssl",))) as server:
        yield RemoteServer(server, port)


def _tls(directory: Path, ca: Pair) -> tuple[str, ...]:
    pair = certificates.server(directory, ca, "database", NAMES)
    return f"--ssl-cert={pair.certificate}", f"--ssl-key={pair.key}"
