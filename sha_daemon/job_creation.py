"""A new job straight in the tables, for hubs without an engine of their own and for trials.

What the tables demand differs: the appliance's want a repository and contexts, those of a bare hub do not.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from sha_daemon.identifiers import quoted

OPTIONS = {
    "repository_id": "--repository",
    "vm_context_id": "--vm-context",
    "vm_backup_context_id": "--backup-context",
    "repository_path": "--repository-path",
}
"""Columns that only some hubs have, and the option that fills each."""


class CannotCreate(Exception):
    """Its text names the cause and the cure."""


class Link(Protocol):
    """A connection with the right to insert. Raises DatabaseError."""

    def execute(self, statement: str, *values: object) -> int: ...

    def rows(self, statement: str, *values: object) -> Sequence[Sequence[Any]]: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...


class NewJob(Struct, frozen=True, kw_only=True):
    """`extra` holds the values of OPTIONS that were given, by column."""

    job_id: str
    vm_name: str
    backup_type: str = "full"
    disks: int = 0
    total_bytes: int = 0
    extra: dict[str, str] = {}


def create(link: Link, database: str, job: NewJob) -> None:
    """Insert the job and its disks, pending, all or nothing. Raises CannotCreate, DatabaseError, BadName."""
    link.execute(f"USE {quoted(database)}")
    values = _job_values(link, job)
    disk_values = _disk_values(link, job) if job.disks else {}
    link.execute("START TRANSACTION")
    try:
        _insert(link, "backup_jobs", values)
        for index in range(job.disks):
            _insert(link, "backup_disks", disk_values | {"disk_index": index})
        link.commit()
    except BaseException:
        link.rollback()
        raise


def _job_values(link: Link, job: NewJob) -> dict[str, object]:
    twin = link.rows("SELECT id FROM backup_jobs WHERE id = %s", job.job_id)
    if twin:
        raise CannotCreate(f"cannot create {job.job_id}: there is a job {twin[0][0]} already; choose another id")
    values: dict[str, object] = {
        "id": job.job_id,
        "vm_name": job.vm_name,
        "backup_type": job.backup_type,
        "status": "pending",
        "total_bytes": job.total_bytes,
    }
    return _completed(link, "backup_jobs", values | job.extra)


def _disk_values(link: Link, job: NewJob) -> dict[str, object]:
    values: dict[str, object] = {"backup_job_id": job.job_id, "disk_index": 0, "status": "pending"}
    context = job.extra.get("vm_backup_context_id")
    return _completed(link, "backup_disks", values | ({"vm_backup_context_id": context} if context else {}))


def _completed(link: Link, table: str, values: dict[str, object]) -> dict[str, object]:
    """With what the table can be given without asking; refused where it demands what nobody gave."""
    columns = {name: demanded == 1 for name, demanded in link.rows(_COLUMNS, table)}
    unknown = [name for name in values if name not in columns]
    if unknown:
        raise CannotCreate(f"cannot create the job: {table} has no {unknown[0]} here; leave out {_option(unknown[0])}")
    if columns.get("repository_path"):
        values = {"repository_path": ""} | values
    lacking = [name for name, demanded in columns.items() if demanded and name not in values]
    if lacking:
        options = ", ".join(_option(name) for name in lacking)
        raise CannotCreate(f"cannot create the job: this hub's {table} demands {', '.join(lacking)}; give {options}")
    return values


_COLUMNS = """SELECT column_name, is_nullable = 'NO' AND column_default IS NULL AND extra NOT LIKE '%%auto_increment%%'
 FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = %s"""


def _option(column: str) -> str:
    return OPTIONS.get(column, f"a value for {column} (this command has no option for it)")


def _insert(link: Link, table: str, values: dict[str, object]) -> None:
    """Column names are this module's own or information_schema's; values are parameters."""
    columns = ", ".join(f"`{name}`" for name in values)
    marks = ", ".join(["%s"] * len(values))
    link.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", *values.values())  # noqa: S608 - see above
