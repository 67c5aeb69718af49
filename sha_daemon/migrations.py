"""Bringing the tables up to date: the files of sql/, in the order of their names, each once, each recorded.

Every file is idempotent: one that was killed in the middle is run again from its start. Two runs at once wait for each
other. A line `-- count: what` before a statement makes the number of rows it changed part of the outcome.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from sha_daemon.database import DatabaseConflict, DatabaseError, RowLocked
from sha_daemon.identifiers import quoted

_COUNT = "-- count:"
_LOCK_SECONDS = 60
_RECORD = """CREATE TABLE IF NOT EXISTS telemetry_migrations (
  name VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  applied_at DATETIME NOT NULL,
  outcome VARCHAR(1000) NOT NULL DEFAULT '',
  PRIMARY KEY (name)
) ENGINE=InnoDB"""
_WAIT_SECONDS = 30
"""For a table or a row. A day is the server's default: meanwhile everybody else would queue behind the migration."""


class Link(Protocol):
    """An administrator's connection, each statement for itself. Raises DatabaseError only."""

    def execute(self, statement: str, *values: object) -> int: ...

    def rows(self, statement: str, *values: object) -> Sequence[Sequence[Any]]: ...


class Statement(Struct, frozen=True):
    """`counts` says what the number of its rows is, where that is of interest to the operator."""

    text: str
    counts: str = ""


class Migration(Struct, frozen=True):
    name: str
    statements: tuple[Statement, ...]


class Applied(Struct, frozen=True):
    """`counts`: what was counted, and how many."""

    name: str
    counts: tuple[tuple[str, int], ...] = ()


def directory() -> Path:
    """Where the files are: inside of the installed package, or at the top of the source tree."""
    here = Path(__file__).resolve().parent
    return here / "sql" if (here / "sql").is_dir() else here.parent / "sql"


def known(where: Path | None = None) -> tuple[Migration, ...]:
    """All migrations, in order. OSError if the files cannot be read."""
    files = sorted((where or directory()).glob("[0-9]*.sql"))
    return tuple(Migration(file.stem, parse(file.read_text("utf-8"))) for file in files)


def parse(text: str) -> tuple[Statement, ...]:
    """The statements of a file. One ends with `;` at the end of a line; a comment is a line of its own."""
    statements: list[Statement] = []
    lines: list[str] = []
    counts = ""
    for line in text.splitlines():
        if line.startswith(_COUNT):
            counts = line.removeprefix(_COUNT).strip()
        if not line.strip() or line.lstrip().startswith("--"):
            continue
        lines.append(line.rstrip())
        if line.rstrip().endswith(";"):
            statements.append(Statement("\n".join(lines).removesuffix(";"), counts))
            lines, counts = [], ""
    if lines:
        raise ValueError(f"cannot read the migration: its last statement has no `;`: {lines[0]}")
    return tuple(statements)


def pending(link: Link, database: str, migrations: Sequence[Migration]) -> tuple[str, ...]:
    """Names of those that are not recorded in that database. Changes nothing. Raises DatabaseError."""
    done = _recorded(link, database)
    return tuple(migration.name for migration in migrations if migration.name not in done)


def apply(link: Link, database: str, migrations: Sequence[Migration]) -> tuple[Applied, ...]:
    """Apply what is not recorded yet; what was applied. Raises DatabaseError; what was done until then stays done."""
    return tuple(applying(link, database, migrations))


def applying(link: Link, database: str, migrations: Sequence[Migration], *, again: bool = False) -> Iterator[Applied]:
    """The same, each as soon as it is done: the operator of a large hub sees how far it is, also where one fails.

    `again`: also what is recorded, for tables that came back without it (from a dump of before, say).
    """
    for statement in (*_session(), f"USE {quoted(database)}"):
        link.execute(statement)
    lock = f"telemetry_migrations:{database}"
    if link.rows("SELECT GET_LOCK(%s, %s)", lock, _LOCK_SECONDS)[0][0] != 1:
        raise DatabaseConflict("cannot migrate: another migration of this database is running; try again later")
    try:
        yield from _apply_waiting(link, database, migrations, again=again)
    finally:
        # A connection that is gone has lost its lock, and the reason why it is gone is worth more than this one.
        with suppress(DatabaseError):
            link.execute("DO RELEASE_LOCK(%s)", lock)


def _session() -> tuple[str, ...]:
    return (
        "SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
        f"SET SESSION lock_wait_timeout = {_WAIT_SECONDS}, innodb_lock_wait_timeout = {_WAIT_SECONDS}",
    )


def _apply_waiting(link: Link, database: str, migrations: Sequence[Migration], *, again: bool) -> Iterator[Applied]:
    waiting = {migration.name for migration in migrations} if again else set(pending(link, database, migrations))
    if waiting:
        link.execute(_RECORD)
    for migration in migrations:
        if migration.name in waiting:
            yield _apply_one(link, migration)


def _apply_one(link: Link, migration: Migration) -> Applied:
    try:
        return _in_one_transaction(link, migration)
    except RowLocked as error:
        raise RowLocked(
            f"cannot apply {migration.name}: another program has kept its table or row in a transaction for"
            f" {_WAIT_SECONDS} s (SHOW PROCESSLIST has it); run this again when that has ended: {error}"
        ) from error
    except DatabaseError as error:
        raise type(error)(f"cannot apply {migration.name}: {error}") from error


def _in_one_transaction(link: Link, migration: Migration) -> Applied:
    """Rows that it changes are committed with its record: a kill between the two would lose their number for ever.

    A change of a table is committed for itself, by the server's nature.
    """
    link.execute("SET SESSION autocommit = 0")
    try:
        counts = tuple(_counted(link, migration))
        outcome = "; ".join(f"{what}: {count}" for what, count in counts)
        link.execute(
            "INSERT IGNORE INTO telemetry_migrations (name, applied_at, outcome) VALUES (%s, UTC_TIMESTAMP(), %s)",
            *(migration.name, outcome[:1000]),
        )
        link.execute("COMMIT")
        link.execute("SET SESSION autocommit = 1")
    except DatabaseError:
        with suppress(DatabaseError):
            link.execute("ROLLBACK")
            link.execute("SET SESSION autocommit = 1")
        raise
    return Applied(migration.name, counts)


def _counted(link: Link, migration: Migration) -> Iterator[tuple[str, int]]:
    for statement in migration.statements:
        changed = link.execute(statement.text)
        if statement.counts:
            yield statement.counts, changed


def _recorded(link: Link, database: str) -> set[str]:
    there = link.rows(
        "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = 'telemetry_migrations'",
        database,
    )
    if not there:
        return set()
    return {row[0] for row in link.rows(f"SELECT name FROM {quoted(database)}.telemetry_migrations")}  # noqa: S608
