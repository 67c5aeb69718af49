"""Whole jobs as senders in the field report them: the files of tests/golden/conversations, and how they are played."""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from sha_daemon.config import HubSettings
from sha_daemon.records import StoredStatus
from tests.support.hub import running_hub
from tests.support.live_hub import Hub

DIRECTORY = Path(__file__).parent.parent / "golden" / "conversations"
JOB = "backup-pgtest1-1728518400"
PATH = f"/api/v1/telemetry/backup/{JOB}"
APPLIANCE = {"vm_context_id": "'repl-pgtest1'", "repository_id": "'repo-1'", "repository_path": "'/backups/6'"}
"""What an appliance's `backup_jobs` asks for besides, as SQL."""


class Made(Struct, forbid_unknown_fields=True):
    """The engine made the job."""

    job: StoredStatus
    disks: int = 0
    context: bool = True


class Say(Struct, forbid_unknown_fields=True):
    """Posted byte for byte."""

    say: msgspec.Raw
    result: str | None = None


class Elsewhere(Struct, forbid_unknown_fields=True):
    """Another program wrote to the tables."""

    elsewhere: str


class Restart(Struct, forbid_unknown_fields=True):
    restart: bool


class Expect(Struct, forbid_unknown_fields=True):
    """The rows as they must be now, these columns of them; `set` is any value but NULL."""

    expect: dict[str, Any]
    disks: list[dict[str, Any]] | None = None


Step = Made | Say | Elsewhere | Restart | Expect
_KINDS: dict[str, type[Any]] = {
    "job": Made,
    "say": Say,
    "elsewhere": Elsewhere,
    "restart": Restart,
    "expect": Expect,
}


def steps(file: Path) -> list[Step]:
    return [_step(line) for line in file.read_bytes().splitlines()]


def _step(line: bytes) -> Step:
    kind = next(iter(msgspec.json.decode(line, type=dict[str, msgspec.Raw])))
    step: Step = msgspec.json.decode(line, type=_KINDS[kind])
    return step


async def play(conversation: list[Step], tables: Hub) -> None:
    """Every step, in order; AssertionError at the first that went otherwise than the file says."""
    while conversation:
        conversation = await _until_restart(conversation, tables)


async def _until_restart(conversation: list[Step], tables: Hub) -> list[Step]:
    """One life of the hub; the steps behind its end."""
    async with running_hub(HubSettings(database=tables.settings)) as (_, client):
        for place, step in enumerate(conversation):
            match step:
                case Restart():
                    return conversation[place + 1 :]
                case Made():
                    made(step, tables)
                case Elsewhere():
                    tables.link.execute(step.elsewhere)
                case Expect():
                    _compare(step, tables)
                case Say():
                    headers = {"Content-Type": "application/json"}
                    async with client.post(PATH, data=bytes(step.say), headers=headers) as answer:
                        assert (answer.status, answer.headers.get("Telemetry-Result")) == (204, step.result)
                        assert await answer.read() == b""
    return []


def made(made: Made, tables: Hub) -> str:
    """The job, in place of the one of an earlier conversation; the path to it."""
    tables.link.execute("SET SESSION foreign_key_checks = 0")
    for table, column in (("backup_disks", "backup_job_id"), ("backup_jobs", "id"), ("telemetry_history", "job_id")):
        tables.link.execute(f"DELETE FROM {table} WHERE {column} = '{JOB}'")
    tables.link.execute("SET SESSION foreign_key_checks = 1")
    context = "'ctx-pgtest1'" if made.context else "NULL"
    values = {"id": f"'{JOB}'", "vm_name": "'pgtest1'", "backup_type": "'full'", "status": f"'{made.job}'"}
    values["vm_backup_context_id"] = context
    asked = {row[0] for row in tables.link.rows("SHOW COLUMNS FROM backup_jobs")}
    values |= {column: value for column, value in APPLIANCE.items() if column in asked}
    tables.link.execute(f"INSERT INTO backup_jobs ({', '.join(values)}) VALUES ({', '.join(values.values())})")
    for index in range(made.disks):
        tables.link.execute(
            "INSERT INTO backup_disks (backup_job_id, disk_index, vm_backup_context_id)"
            f" VALUES ('{JOB}', {index}, {context})"
        )
    return PATH


def _compare(step: Expect, tables: Hub) -> None:
    assert _rows(tables, step.expect, "backup_jobs WHERE id") == [step.expect]
    if step.disks:
        found = _rows(tables, step.disks[0], "backup_disks WHERE backup_job_id", " ORDER BY disk_index")
        assert found == step.disks


def _rows(tables: Hub, expected: dict[str, Any], of: str, order: str = "") -> list[dict[str, Any]]:
    found = tables.link.rows(f"SELECT {', '.join(expected)} FROM {of} = '{JOB}'{order}")
    return [
        {
            column: "set" if expected[column] == "set" and value is not None else value
            for column, value in zip(expected, row, strict=True)
        }
        for row in found
    ]
