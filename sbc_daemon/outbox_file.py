"""The outbox's database file: opened whatever lies there, written in transactions. The only module that speaks SQLite.

WAL; `synchronous=FULL` where the promise is "on the disk", NORMAL otherwise (a power cut then loses the last progress,
never the file). Everything that a disk can do wrong becomes OutboxFull, and the next call tries again. SQLite would
write on into a file that was deleted or moved: what is in it then goes over into a new one (`outbox_place`).
"""

import errno
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sbc_daemon import outbox_tables as tables
from sbc_daemon import state_directory
from sbc_daemon.ledger import Ledger
from sbc_daemon.outbox import OutboxFull, StateDirectoryHeld
from sbc_daemon.outbox_place import Identity, OutboxPlace
from sbc_daemon.state_directory import Ballast
from telemetry_common.clock import Clock
from telemetry_common.logs import fields

log = logging.getLogger(__name__)
T = TypeVar("T")

PAGE_BYTES = 4096
NAME = "outbox.db"
BALLAST_SECONDS = 60.0
"""Between two attempts to take the reserve again after a full disk needed it."""
COPY_AGAIN_SECONDS = 5.0
"""Between two attempts to copy all of a file whose name is lost, where the disk did not take the copy."""
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
        self._place = OutboxPlace(self._path)
        self._clock = clock
        self._log_bytes = max(64 << 10, min(4 << 20, max_bytes // 8))
        self._connection: sqlite3.Connection | None = None
        self._held: int | None = None
        self._ballast = Ballast(directory / "outbox.reserve", self._log_bytes // 2)
        self._ballast_wanted_at: float | None = None
        self._nameless: str | None = None
        self._copy_again_at = float("-inf")
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

        self.keep_in_place()
        result = self._with_reserve(in_transaction) if essential else self.guarded(in_transaction)
        if synced:
            self.keep_in_place()
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
        if self._place.is_ours():  # else what is open is all that there is of it
            self._disconnect()
        return OutboxFull(f"cannot use {self._path}: {error}")

    def _at_page_limit(self) -> bool:
        with suppress(sqlite3.Error):
            return int(self.run("PRAGMA page_count")[0][0]) >= self.cap // PAGE_BYTES
        return False

    def _ensure_open(self) -> None:
        if self._connection is not None:
            return
        former = self._held
        try:
            self._hold_directory()
            if self._place.take_up_copy(self._clock.wall()):
                log.warning(fields("outbox is taken up from the copy that was being put in its place", file=self._path))
            self._open_with_reserve()
            self._take_reserve()
        except OSError as error:
            raise OutboxFull(f"cannot open {self._path}: {error.strerror or error}") from None
        except StateDirectoryHeld as error:
            if former is None:
                raise
            raise OutboxFull(str(error)) from None

    def _hold_directory(self) -> None:
        """The one that the name leads to: a lock on one that is gone keeps nobody away."""
        if self._held is not None and state_directory.is_held(self._directory, self._held):
            return
        held = state_directory.hold_directory(self._directory)
        if self._held is not None:
            os.close(self._held)
        self._held = held

    def _take_reserve(self) -> None:
        if not self._ballast.take():
            self._ballast_wanted_at = self._clock.monotonic()

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

    def keep_in_place(self) -> None:
        """A start would find the file that is open; else all that it holds goes over into a new one, now.

        Raises OutboxFull where that cannot be. What is open can then be read all the same, and must not be closed.
        """
        connection = self._connection
        if connection is None or self._place.is_ours():
            self._nameless = None
            return
        if self._nameless is not None and self._clock.monotonic() < self._copy_again_at:
            raise OutboxFull(self._nameless)
        try:
            self._hold_directory()
            self._go_over(connection)
        except (OSError, sqlite3.Error, StateDirectoryHeld) as error:
            self._nameless = self._tell_nameless(getattr(error, "strerror", None) or str(error))
            raise OutboxFull(self._nameless) from None

    def _tell_nameless(self, reason: str) -> str:
        if self._nameless is None:
            log.error(fields("outbox was deleted or moved, and cannot be made anew", file=self._path, reason=reason))
        return (
            f"cannot keep the message: {self._path} was deleted or moved, and cannot be made anew: {reason}; "
            f"see to {self._directory}"
        )

    def _go_over(self, former: sqlite3.Connection) -> None:
        """Raises OSError or sqlite3.Error; then the file that is open still is, unless it cannot be read any more."""
        try:
            copy = self._copied(former)
            aside = self._place.put_copy(self._clock.wall())
        except (OSError, sqlite3.Error):
            self._place.discard_copy()
            raise
        if aside is not None:
            self.moved_aside.append(aside.name)
        try:
            self._reconnect(copy, former)
        except (_Damaged, sqlite3.DatabaseError) as error:
            if not isinstance(error, _Damaged) and _code(error) not in _DAMAGE:
                raise
            if self._place.database() != copy:
                raise _replaced() from None
            self._begin_anew(str(error))
            return
        count = self.run(tables.COUNT)[0][0]
        log.warning(fields("outbox was deleted or moved; a new one has all of it", messages=count, moved_aside=aside))
        self._nameless = None
        self._take_reserve()

    def _copied(self, former: sqlite3.Connection) -> Identity:
        """Page by page: damage goes along, and is found as ever."""
        try:
            with closing(sqlite3.connect(self._place.begin_copy(), isolation_level=None)) as copy:
                copy.execute("PRAGMA synchronous=OFF")  # it is synced as a whole
                copy.execute("PRAGMA journal_mode=OFF")
                former.backup(copy)
        except sqlite3.Error as error:
            self._copy_again_at = self._clock.monotonic() + COPY_AGAIN_SECONDS
            if getattr(error, "sqlite_errorcode", 0) in _READ_TROUBLE:
                self._disconnect()
            raise
        return self._place.finish_copy()

    def _reconnect(self, copy: Identity, former: sqlite3.Connection) -> None:
        """The open file is closed only when the copy is open by its name: until then it is all that there is."""
        files = self._place.files
        try:
            self._connect(copy)
        except BaseException:
            if self._connection is not former:
                self._disconnect()
            self._connection, self._place.files = former, files
            raise
        with suppress(sqlite3.Error):
            former.close()

    def _connect(self, expected: Identity | None = None) -> None:
        database = self._place.database()
        if expected is not None and database != expected:
            raise _replaced()
        self._connection = sqlite3.connect(
            self._path, timeout=1.0, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        self._connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        self.run("PRAGMA auto_vacuum=INCREMENTAL")
        mode = self.run("PRAGMA journal_mode=WAL")[0][0]
        version = self.run("PRAGMA user_version")[0][0]  # from the first reading on there is a log
        self._place.opened(database, with_log=mode == "wal")
        if expected is not None and not self._place.is_ours():
            raise _replaced()
        if (fault := self.run("PRAGMA integrity_check(1)")[0][0]) != "ok":
            raise _Damaged(fault)
        if version > tables.VERSION:
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
        if not self._place.is_ours():
            raise FileNotFoundError(errno.ENOENT, "it was deleted or moved", str(self._path))
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


def _replaced() -> OSError:
    return OSError(errno.ESTALE, "it was deleted or replaced once more meanwhile")


def _code(error: sqlite3.DatabaseError) -> int:
    """SQLite's primary error code; SQLITE_ERROR where Python raised it itself."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF
