"""Bringing the tables up to date: the files of sql/, in the order of their names, each once, each recorded.

Every file is idempotent: one that was killed in the middle is run again from its start. Two runs at once wait for each
other. A line `-- count: what` before a statement makes the number of rows it changed part of the outcome.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from sha_daemon.database import DatabaseConflict, DatabaseError
from sha_daemon.identifiers import quoted

_COUNT = "-- count:"
_LOCK_SECONDS = 60
_RECORD = """CREATE TABLE IF NOT EXISTS telemetry_migrations (
  name VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  applied_at DATETIME NOT NULL,
  outcome VARCHAR(1000) NOT NULL DEFAULT '',
  PRIMARY KEY (name)
) ENGINE=InnoDB"""
_SESSION = (
    "SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
    # A day is the server's default: meanwhile everybody else would queue behind a migration that waits for a table.
    "SET SESSION lock_wait_timeout = 30",
)


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
    for statement in (*_SESSION, f"USE {quoted(database)}"):
        link.execute(statement)
    lock = f"telemetry_migrations:{database}"
    if link.rows("SELECT GET_LOCK(%s, %s)", lock, _LOCK_SECONDS)[0][0] != 1:
        raise DatabaseConflict("cannot migrate: another migration of this database is running; try again later")
    try:
        return _apply_pending(link, database, migrations)
    finally:
        link.execute("DO RELEASE_LOCK(%s)", lock)


def _apply_pending(link: Link, database: str, migrations: Sequence[Migration]) -> tuple[Applied, ...]:
    waiting = set(pending(link, database, migrations))
    if not waiting:
        return ()
    link.execute(_RECORD)
    return tuple(_apply_one(link, migration) for migration in migrations if migration.name in waiting)


def _apply_one(link: Link, migration: Migration) -> Applied:
    counts: list[tuple[str, int]] = []
    for statement in migration.statements:
        try:
            changed = link.execute(statement.text)
        except DatabaseError as error:
            raise type(error)(f"cannot apply {migration.name}: {error}") from error
        if statement.counts:
            counts.append((statement.counts, changed))
    outcome = "; ".join(f"{what}: {count}" for what, count in counts)
    link.execute(
        "INSERT IGNORE INTO telemetry_migrations (name, applied_at, outcome) VALUES (%s, UTC_TIMESTAMP(), %s)",
        *(migration.name, outcome[:1000]),
    )
    return Applied(migration.name, tuple(counts))


def _recorded(link: Link, database: str) -> set[str]:
    there = link.rows(
        "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = 'telemetry_migrations'",
        database,
    )
    if not there:
        return set()
    return {row[0] for row in link.rows(f"SELECT name FROM {quoted(database)}.telemetry_migrations")}  # noqa: S608
