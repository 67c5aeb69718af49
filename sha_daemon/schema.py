"""What the daemon needs of the tables, and what it must know of the ones it finds. Reads information_schema only."""

import re
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from sha_daemon.database import SchemaMissing
from sha_daemon.job_types import JobType

_JOBS = (
    *("id", "vm_backup_context_id", "vm_name", "backup_type", "status", "bytes_transferred", "total_bytes"),
    *("error_message", "created_at", "started_at", "completed_at", "current_phase", "transfer_speed_bps"),
    *("eta_seconds", "progress_percent", "last_telemetry_at", "telemetry_seq", "telemetry_idle_seconds"),
    *("telemetry_heard_us", "watchdog_failed_at", "watchdog_message"),
)
_DISKS = (
    *("id", "vm_backup_context_id", "disk_index", "status", "bytes_transferred", "completed_at"),
    *("progress_percent", "total_bytes"),
)
_HISTORY = (
    *("id", "job_type", "job_id", "seq", "at", "status", "current_phase", "bytes_transferred", "total_bytes"),
    *("transfer_speed_bps", "progress_percent", "producer_time"),
)
_FORCED = {"telemetry_history": ("idx_job_chart",)}
"""Indexes that statements name. Without it the statement fails: a watchdog whose index is gone finds no dead."""
_FORCED_ON_JOBS = ("idx_last_telemetry", "idx_telemetry_silence")
_INDEXES = """SELECT DISTINCT table_name, index_name FROM information_schema.statistics
 WHERE table_schema = DATABASE() AND table_name IN (%s, %s)"""
_CLOCK = "SELECT COUNT(*) FROM telemetry_listening WHERE id = 1"
_COLUMNS = """SELECT table_name, column_name, collation_name, is_nullable FROM information_schema.columns
 WHERE table_schema = DATABASE() AND table_name IN (%s, %s, %s, %s)"""
# The unique one first: it holds the index as well.
_DISK_INDEX = """SELECT index_name FROM information_schema.statistics WHERE table_schema = DATABASE()
 AND table_name = %s AND column_name = %s AND seq_in_index = 1 ORDER BY non_unique"""
_COLLATION = re.compile(r"utf8mb4_[a-z0-9_]+")


def required(kind: JobType) -> dict[str, tuple[str, ...]]:
    """The columns that the daemon needs, by table."""
    return {
        kind.jobs_table: _JOBS,
        kind.disks_table: (*_DISKS, kind.disk_job_column),
        "telemetry_history": _HISTORY,
        "telemetry_listening": ("id", "listened_us", "advanced_at"),
    }


class Reader(Protocol):
    def rows(self, statement: str, *values: object) -> Sequence[Sequence[Any]]: ...


class Tables(Struct, frozen=True, kw_only=True):
    """`id_collation` is that of the jobs' id; `context_required`: a disk's row must name a backup context.

    `packet_bytes` is the longest statement that the server takes: it hangs up on a longer one.

    `disk_index` is the name of the disks' index on their job and index, `disk_collation` that of their job's id.
    """

    id_collation: str
    disk_collation: str
    context_required: bool
    disk_index: str
    server: str
    packet_bytes: int


def missing(reader: Reader, kind: JobType) -> list[str]:
    """What the daemon needs and the current database lacks (or hides from this user): tables, `table.column`s, indexes,
    the row of the listening clock.
    """
    return _lacking(reader, _columns(reader, kind), kind)


def inspect(reader: Reader, kind: JobType) -> Tables:
    """What the daemon must know of these tables. Raises SchemaMissing, naming what is not there."""
    columns = _columns(reader, kind)
    lacking = _lacking(reader, columns, kind)
    if lacking:
        raise SchemaMissing(f"cannot use the tables: {_some(lacking)} missing; run `shactl db migrate`")
    index = reader.rows(_DISK_INDEX, kind.disks_table, kind.disk_job_column)
    if not index or "`" in index[0][0]:
        raise SchemaMissing(
            f"cannot use the tables: {kind.disks_table} has no unique index on its job; run `shactl db migrate`"
        )
    server, packet_bytes = reader.rows("SELECT VERSION(), @@max_allowed_packet")[0]
    return Tables(
        id_collation=_collation(columns, kind.jobs_table, "id"),
        disk_collation=_collation(columns, kind.disks_table, kind.disk_job_column),
        context_required=columns[kind.disks_table, "vm_backup_context_id"][1] == "NO",
        disk_index=str(index[0][0]),
        server=str(server),
        packet_bytes=int(packet_bytes),
    )


def _collation(columns: dict[tuple[str, str], tuple[object, object]], table: str, column: str) -> str:
    """It goes into statements as it is. Raises SchemaMissing for one that ids cannot be compared by."""
    collation = str(columns[table, column][0])
    if not _COLLATION.fullmatch(collation):
        raise SchemaMissing(
            f"cannot use the tables: {table}.{column} has collation {collation}; it must be one of utf8mb4"
        )
    return collation


def _columns(reader: Reader, kind: JobType) -> dict[tuple[str, str], tuple[object, object]]:
    found = reader.rows(_COLUMNS, *required(kind))
    return {(table, column): (collation, nullable) for table, column, collation, nullable in found}


def _lacking(reader: Reader, columns: dict[tuple[str, str], tuple[object, object]], kind: JobType) -> list[str]:
    """Indexes and the row are looked for where all tables are there."""
    absent = _missing(columns, kind)
    if set(required(kind)) & set(absent):
        return absent
    forced = {kind.jobs_table: _FORCED_ON_JOBS} | _FORCED
    there = set(reader.rows(_INDEXES, *forced))
    absent += [
        f"index {name} of {table}" for table, names in forced.items() for name in names if (table, name) not in there
    ]
    return absent if reader.rows(_CLOCK)[0][0] else [*absent, "the row of telemetry_listening"]


def _missing(columns: dict[tuple[str, str], tuple[object, object]], kind: JobType) -> list[str]:
    needs = required(kind)
    tables = {table for table, _ in columns}
    absent = [table for table in needs if table not in tables]
    return absent + [
        f"{table}.{column}"
        for table, needed in needs.items()
        for column in needed
        if table in tables and (table, column) not in columns
    ]


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"
