"""The hub's database on MariaDB: one connection, on a thread of its own. With `mariadb_access` all that knows PyMySQL.

After any error the connection is thrown away, the next work makes a new one: a connection that a timeout has cut off in
the middle of an answer gives the next caller the wrong one.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pymysql

from sha_daemon import statements
from sha_daemon.config import DatabaseSettings
from sha_daemon.database import DatabaseAway, DatabaseError, RowRefused, SchemaMissing, Session
from sha_daemon.job_types import BACKUP, JobType
from sha_daemon.mariadb_access import MariaAccess
from sha_daemon.mariadb_errors import translated
from sha_daemon.mariadb_session import MariaSession
from sha_daemon.schema import Tables, inspect
from sha_daemon.servers import Server
from sha_daemon.worker_thread import WorkerThread

T = TypeVar("T")

_IDLE_SECONDS = 1.0
"""A connection that rested for longer is asked whether it still lives before a transaction is begun on it."""


class Link:
    """One connection, its errors in the hub's words. For one thread."""

    def __init__(self, connection: "pymysql.Connection[Any]") -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self.last_id = 0
        self.used_at = time.monotonic()

    def execute(self, statement: str, *values: object) -> int:
        """Run it; how many rows it found. Raises DatabaseError."""
        found = _in_our_words(lambda: self._cursor.execute(statement, values or None))
        self.last_id = self._cursor.lastrowid or 0
        self.used_at = time.monotonic()
        return int(found)

    def rows(self, statement: str, *values: object) -> Sequence[Sequence[Any]]:
        """All rows of a SELECT. Raises DatabaseError."""
        self.execute(statement, *values)
        return _in_our_words(self._cursor.fetchall)

    def commit(self) -> None:
        _in_our_words(self._connection.commit)
        self.used_at = time.monotonic()

    def rollback(self) -> None:
        _in_our_words(self._connection.rollback)

    def lives(self) -> bool:
        try:
            _in_our_words(lambda: self._connection.ping(reconnect=False))
        except DatabaseError:
            return False
        return True

    def close(self) -> None:
        """Never raises: what could go wrong with a connection that is given up is of no interest."""
        try:
            _in_our_words(self._connection.close)
        except DatabaseError:
            return


def _in_our_words(call: Callable[[], T]) -> T:
    try:
        return call()
    except pymysql.Error as error:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        raise translated(code, str(error.args[-1] if error.args else error)) from error
    except OSError as error:
        raise DatabaseAway(f"cannot reach the database: {error}") from error
    except UnicodeEncodeError as error:
        raise RowRefused(f"cannot store the row: its text has no form in UTF-8: {error.reason}") from error


def connect(settings: DatabaseSettings, *, daemon: bool, patient: bool = False) -> Link:
    """A connection to the first server that takes one; see MariaAccess.connect. Raises DatabaseError, SettingsError."""
    access = MariaAccess(settings)
    return first_that_serves(access, lambda server: _linked(access, server, daemon=daemon, patient=patient))


def _linked(access: MariaAccess, server: Server, *, daemon: bool, patient: bool = False) -> Link:
    return Link(_in_our_words(lambda: access.connect(server, daemon=daemon, patient=patient)))


def first_that_serves(access: MariaAccess, attempt: Callable[[Server], T]) -> T:
    """What `attempt` returns for the first server that it does not find away. Raises DatabaseAway for all of them."""
    problems: list[DatabaseAway] = []
    for server in access.servers.in_order():
        try:
            found = attempt(server)
        except DatabaseAway as away:
            problems.append(away)
        else:
            access.serves(server)
            return found
    if len(problems) == 1:
        raise problems[0]
    raise DatabaseAway(f"cannot use any of the database's servers: {'; '.join(map(str, problems))}") from problems[-1]


class MariaDB:
    """Implements `database.Database` for one kind of job. Connects with the first work, and again after any error."""

    def __init__(self, settings: DatabaseSettings, kind: JobType = BACKUP, access: MariaAccess | None = None) -> None:
        self._access = access or MariaAccess(settings)
        self._kind = kind
        self._worker = WorkerThread("mariadb")
        self._open: tuple[Link, Tables] | None = None
        self._server: Server | None = None
        self._doubts = 0
        self._closed = False
        self.tables: Tables | None = None
        """What is known of the server since the last connection; None before the first."""

    async def run(self, work: Callable[[Session], T]) -> T:
        if self._closed:
            raise DatabaseAway("cannot reach the database: the hub is stopping")
        return await self._worker.call(lambda: self._transaction(work))

    async def close(self) -> None:
        """After all work that was called before."""
        if not self._closed:
            self._closed = True
            await self._worker.call(self._discard)
            self._worker.end()

    def busy_since(self) -> float | None:
        """Monotonic time since when the present transaction is running (or waiting for the server); None if none is."""
        return self._worker.busy_since()

    def _transaction(self, work: Callable[[Session], T]) -> T:
        link, tables = self._connected()
        try:
            session = MariaSession(link, tables, self._kind)
            result = work(session)
            session.commit()
        except DatabaseError as error:
            self._give_up(link, error)
            raise
        except BaseException:
            self._discard()
            raise
        return result

    def _give_up(self, link: Link, error: DatabaseError) -> None:
        """Locks are released at once where the server still listens, not when it finds out that we have gone."""
        try:
            if isinstance(error, SchemaMissing):
                # What one connection lacks may be what another one never asks for: each looks at the tables again.
                self._access.schema_doubts += 1
            if isinstance(error, DatabaseAway):
                self._pass_over()
            else:
                link.rollback()
        except DatabaseError as also:
            error.add_note(f"rollback: {also}")
        finally:
            self._discard()

    def _pass_over(self) -> None:
        """It answers and cannot serve (read only, not part of its cluster), or answers no more: another one may."""
        if self._server is not None:
            self._access.servers.failed(self._server)

    def _connected(self) -> tuple[Link, Tables]:
        if self._open is not None:
            link, _ = self._open
            known = self._doubts == self._access.schema_doubts
            if known and (time.monotonic() - link.used_at < _IDLE_SECONDS or link.lives()):
                return self._open
            self._discard()
        self._doubts = self._access.schema_doubts
        self._open = first_that_serves(self._access, self._prepared)
        return self._open

    def _prepared(self, server: Server) -> tuple[Link, Tables]:
        link = _linked(self._access, server, daemon=True)
        try:
            for statement in statements.session(self._access.settings.timeout_seconds):
                link.execute(statement)
            self.tables = inspect(link, self._kind)
            link.commit()
        except BaseException:
            link.close()
            raise
        self._server = server
        return link, self.tables

    def _discard(self) -> None:
        if self._open is not None:
            self._open[0].close()
            self._open = None
