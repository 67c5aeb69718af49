"""The outbox's database file: opened whatever lies there, written in transactions. The only module that speaks SQLite.

WAL; `synchronous=FULL` where the promise is "on the disk", NORMAL otherwise (a power cut then loses the last progress,
never the file). Everything that a disk can do wrong becomes OutboxFull, and the next call tries again.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sbc_daemon import outbox_tables as tables
from sbc_daemon import state_directory
from sbc_daemon.ledger import Ledger
from sbc_daemon.outbox import OutboxFull
from sbc_daemon.state_directory import Ballast
from telemetry_common.clock import Clock
from telemetry_common.logs import fields

log = logging.getLogger(__name__)
T = TypeVar("T")

PAGE_BYTES = 4096
NAME = "outbox.db"
BALLAST_SECONDS = 60.0
"""Between two attempts to take the reserve again after a full disk needed it."""
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT})
"""No statement of ours breaks a constraint of a sound file; a damaged one may hold another, or values against it."""
_DISK_TROUBLE = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_WRITE_TROUBLE = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC})
"""The file can still be read, so it stays open. A quota that is used up is a write error, not SQLITE_FULL."""
_READ_TROUBLE = frozenset({sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ})


class _Damaged(Exception):
    """The file is not an outbox (any more); the text says why."""


class _DiskFull(OutboxFull):
    """Of the kind that giving up the ballast can help."""


class OutboxFile:
    """Used by one thread. `max_bytes` caps the database and its log together; `cap` is the database's part.

    `owed` are the entries (id, seq) that are delivered and could not be removed yet: removed with the next transaction.
    `overtaken` are jobs whose progress in the file is older than what was delivered of them from memory: likewise.
    `ledger` has what became of the messages in the file, as of the last transaction that succeeded.
    `ceiling` is written into a new file that takes the place of a damaged one; `moved_aside` names those.
    """

    def __init__(self, directory: Path, max_bytes: int, clock: Clock) -> None:
        self._directory = directory
        self._path = directory / NAME
        self._clock = clock
        self._log_bytes = max(64 << 10, min(4 << 20, max_bytes // 8))
        self._connection: sqlite3.Connection | None = None
        self._held: int | None = None
        self._ballast = Ballast(directory / "outbox.reserve", self._log_bytes // 2)
        self._ballast_wanted_at: float | None = None
        self.cap = max_bytes - self._log_bytes - self._log_bytes // 2
        self.owed: set[tuple[int, int]] = set()
        self.overtaken: set[str] = set()
        self.ledger = Ledger()
        self.ceiling = 0
        self.moved_aside: list[str] = []

    def write(self, work: Callable[[], T], *, synced: bool, essential: bool = False) -> T:
        """`work` in a transaction. What is `essential` (a job's end, a removal) may use the reserve on a full disk."""

        def in_transaction() -> T:
            with self._transaction(synced=synced):
                return work()

        result = self._with_reserve(in_transaction) if essential else self.guarded(in_transaction)
        self._refill_reserve()
        return result

    def _with_reserve(self, work: Callable[[], T]) -> T:
        try:
            return self.guarded(work)
        except _DiskFull:
            if not self._ballast.give_up():
                raise
            self._ballast_wanted_at = self._clock.monotonic() + BALLAST_SECONDS
            return self.guarded(work)

    def _refill_reserve(self) -> None:
        wanted_at = self._ballast_wanted_at
        if wanted_at is not None and self._clock.monotonic() >= wanted_at:
            self._ballast_wanted_at = None if self._ballast.take() else self._clock.monotonic() + BALLAST_SECONDS

    @contextmanager
    def _transaction(self, *, synced: bool) -> Iterator[None]:
        """All or nothing; what was delivered or overtaken and could not be removed then is removed now."""
        self.run(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
        self.run("BEGIN IMMEDIATE")
        before = self.ledger.copy()
        try:
            for key in self.owed:
                self.ledger.delivered += len(self.run(tables.REMOVE, *key))
            for job_id in self.overtaken:
                self.ledger.superseded += len(self.run(tables.REMOVE_PROGRESS, job_id))
            yield
            self.run("COMMIT")
        except BaseException:
            self.ledger.become(before)
            if self._connection is not None and self._connection.in_transaction:
                with suppress(sqlite3.Error):
                    self.run("ROLLBACK")
            raise
        self.owed.clear()
        self.overtaken.clear()

    def guarded(self, work: Callable[[], T]) -> T:
        """`work` on an open file. A file found damaged is moved aside and `work` done once more on a new one.

        Raises OutboxFull for everything else that the disk can do; the next call tries again, from the opening on.
        """
        try:
            self._ensure_open()
            return work()
        except sqlite3.ProgrammingError:
            raise  # a fault of this program, not of the disk
        except sqlite3.DatabaseError as error:
            if _code(error) not in _DAMAGE:
                raise self._refusal(error) from None
            self._begin_anew(str(error))
        try:
            return work()
        except sqlite3.DatabaseError as error:
            raise self._refusal(error) from None

    def _refusal(self, error: sqlite3.DatabaseError) -> OutboxFull:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code == sqlite3.SQLITE_FULL and self._at_page_limit():
            return OutboxFull("cannot keep the message: the outbox is at its cap (outbox.max_bytes)")
        if code in _WRITE_TROUBLE:
            cause = "the disk is full" if code == sqlite3.SQLITE_FULL else str(error)
            return _DiskFull(f"cannot write {self._path}: {cause}; make room in {self._directory}")
        self._disconnect()
        return OutboxFull(f"cannot use {self._path}: {error}")

    def _at_page_limit(self) -> bool:
        with suppress(sqlite3.Error):
            return int(self.run("PRAGMA page_count")[0][0]) >= self.cap // PAGE_BYTES
        return False

    def _ensure_open(self) -> None:
        if self._connection is not None:
            return
        try:
            if self._held is None:
                self._held = state_directory.hold_directory(self._directory)
            self._open_with_reserve()
            if not self._ballast.take():
                self._ballast_wanted_at = self._clock.monotonic()
        except OSError as error:
            raise OutboxFull(f"cannot open {self._path}: {error.strerror or error}") from None

    def _open_with_reserve(self) -> None:
        """SQLite needs room for its log's index: without it what was kept could not even be read on a full disk."""
        try:
            self._open_file()
        except sqlite3.DatabaseError:
            if not self._ballast.give_up():
                raise
            self._open_file()

    def _open_file(self) -> None:
        """The file, or a new one where it is damaged, foreign or not to be read. Raises as SQLite and the disk do."""
        try:
            state_directory.make_private(self._path)
            self._connect()
        except (_Damaged, OSError) as error:
            if isinstance(error, OSError) and not os.path.lexists(self._path):
                raise
            self._begin_anew(str(error))
        except sqlite3.DatabaseError as error:
            self._disconnect()
            full = getattr(error, "sqlite_errorcode", 0)
            if _code(error) in _DISK_TROUBLE and full not in _READ_TROUBLE:
                raise
            self._begin_anew(str(error))

    def _begin_anew(self, reason: str) -> None:
        self._disconnect()
        try:
            aside = state_directory.move_aside(self._path, self._clock.wall())
            self.moved_aside.append(aside.name)
            log.error(fields("outbox is damaged; moved aside, a new one begins", file=str(aside), reason=reason))
            self.ledger.found(0, len(self.owed))
            self.owed.clear()
            state_directory.make_private(self._path)
            self._connect()
            with self._transaction(synced=True):
                self.run(tables.RAISE_CEILING, self.ceiling)
        except (OSError, sqlite3.DatabaseError, _Damaged) as error:
            self._disconnect()
            raise OutboxFull(f"cannot begin a new outbox at {self._path}: {error}") from None

    def _connect(self) -> None:
        self._connection = sqlite3.connect(
            self._path, timeout=1.0, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        self._connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        self.run("PRAGMA auto_vacuum=INCREMENTAL")
        self.run("PRAGMA journal_mode=WAL")
        if (fault := self.run("PRAGMA integrity_check(1)")[0][0]) != "ok":
            raise _Damaged(fault)
        if (version := self.run("PRAGMA user_version")[0][0]) > tables.VERSION:
            raise _Damaged(f"written by a newer version ({version})")
        self.run(f"PRAGMA wal_autocheckpoint={self._log_bytes // 2 // PAGE_BYTES}")
        self.run(f"PRAGMA journal_size_limit={self._log_bytes}")
        self.run(f"PRAGMA max_page_count={self.cap // PAGE_BYTES}")
        if version < tables.VERSION:
            self._connection.executescript(f"BEGIN; {tables.TABLES} PRAGMA user_version={tables.VERSION}; COMMIT;")
        for statement in tables.EXPECTED:
            self.run(statement)
        self.ledger.found(self.run(tables.COUNT)[0][0], len(self.owed))

    def sync(self) -> None:
        """What was written without a sync is on the disk when this returns. Raises OSError.

        The log is synced through a descriptor of our own: SQLite syncs it only with something new to write.
        """
        descriptor = os.open(self._path.with_name(f"{NAME}-wal"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Everything on the disk, and the directory free for another."""
        if self._connection is not None:
            with suppress(OutboxFull):
                self.write(lambda: None, synced=True)
        self._disconnect()
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def run(self, statement: str, *parameters: Any) -> list[Any]:
        if self._connection is None:
            raise sqlite3.OperationalError("it is not open")
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except UnicodeDecodeError as error:  # Python's, of a message that quotes a damaged table's definition
            raise sqlite3.DatabaseError(f"what SQLite says of it is no text ({error.reason})") from None

    def used_bytes(self) -> int:
        pages = self.run("PRAGMA page_count")[0][0] - self.run("PRAGMA freelist_count")[0][0]
        return int(pages) * PAGE_BYTES


def _code(error: sqlite3.DatabaseError) -> int:
    """SQLite's primary error code; SQLITE_ERROR where Python raised it itself."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF
