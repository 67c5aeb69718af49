"""shactl jobs, job show, job create. The first two ask the running hub; create writes to the database itself."""

import argparse
import json
from typing import Any

from sha_daemon import job_creation, job_tables
from sha_daemon.config import HubSettings
from sha_daemon.hub_client import ShownJob, decoded
from sha_daemon.mariadb import connect
from sha_daemon.queries import MAX_VM_NAME
from sha_daemon.shactl_answers import NO, OK, answered, complain
from sha_daemon.shactl_hub import asked_hub
from telemetry_common.contract import MAX_DISKS, MAX_JOB_ID
from telemetry_common.text import counted

STATUSES = ("pending", "running", "completed", "failed", "cancelled")


def add_commands(groups: "argparse._SubParsersAction[Any]") -> None:
    jobs = groups.add_parser(
        "jobs", help="list backup jobs, newest first", description="List backup jobs, newest first."
    )
    jobs.add_argument(
        "--status", type=_statuses, default=[], metavar="S,...", help=f"only these: {', '.join(STATUSES)}"
    )
    jobs.add_argument("--vm", type=_vm, metavar="TEXT", help="only of machines with TEXT in their name")
    jobs.add_argument("--limit", type=_count, default=50, metavar="N", help="at most N jobs (default: %(default)s)")
    jobs.add_argument("--json", action="store_true", help="the hub's own JSON, as one array")
    jobs.set_defaults(command=answered(_jobs))

    group = groups.add_parser("job", help="one backup job", description="Show or create one backup job.")
    commands = group.add_subparsers(title="commands", required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="all that is known of a job", description="All that is known of a job.")
    show.add_argument("id", metavar="ID", type=_job_id)
    show.add_argument("--json", action="store_true", help="the hub's own JSON")
    show.set_defaults(command=answered(_show))
    _add_create(commands)


def _add_create(commands: "argparse._SubParsersAction[Any]") -> None:
    create = commands.add_parser(
        "create",
        help="a new job, for hubs without an engine and for trials",
        description="Insert a job as pending, with its disks, straight into the database.",
    )
    create.add_argument("id", metavar="ID", type=_job_id)
    create.add_argument("--vm", required=True, metavar="NAME", help="the virtual machine's name")
    create.add_argument("--type", choices=("full", "incremental", "differential"), default="full")
    create.add_argument("--disks", type=_disk_count, default=0, metavar="N", help="rows for disks 0 to N-1")
    create.add_argument("--total-bytes", type=_amount, default=0, metavar="N", help="size of the whole job, if known")
    appliance = create.add_argument_group("on an appliance, whose tables demand them")
    appliance.add_argument("--repository", metavar="ID", dest="repository_id")
    appliance.add_argument("--vm-context", metavar="ID", dest="vm_context_id")
    appliance.add_argument("--backup-context", metavar="ID", dest="vm_backup_context_id", help="needed for --disks")
    appliance.add_argument("--repository-path", metavar="PATH", dest="repository_path")
    create.set_defaults(command=answered(_create))


def _jobs(settings: HubSettings, chosen: argparse.Namespace) -> int:
    found = asked_hub(settings, chosen).jobs(chosen.status, chosen.limit, chosen.vm or "")
    if chosen.json:
        print(json.dumps([json.loads(job) for job in found], indent=2))
    elif found:
        print(job_tables.listing([decoded(job, ShownJob) for job in found]))
    else:
        print("no jobs")
    return OK


def _show(settings: HubSettings, chosen: argparse.Namespace) -> int:
    found = asked_hub(settings, chosen).job(chosen.id)
    if found is None:
        complain(f"cannot show {chosen.id}: the hub has no such job")
        return NO
    print(json.dumps(json.loads(found), indent=2) if chosen.json else job_tables.detail(decoded(found, ShownJob)))
    return OK


def _create(settings: HubSettings, chosen: argparse.Namespace) -> int:
    given = {column: getattr(chosen, column) for column in job_creation.OPTIONS}
    job = job_creation.NewJob(
        job_id=chosen.id,
        vm_name=chosen.vm,
        backup_type=chosen.type,
        disks=chosen.disks,
        total_bytes=chosen.total_bytes,
        extra={column: value for column, value in given.items() if value is not None},
    )
    link = connect(settings.database, daemon=False)
    try:
        job_creation.create(link, settings.database.name, job)
    finally:
        link.close()
    print(f"created {chosen.id}: pending, {counted(chosen.disks, 'disk')}")
    return OK


def _statuses(text: str) -> list[str]:
    chosen = text.split(",")
    if any(status not in STATUSES for status in chosen):
        raise argparse.ArgumentTypeError(f"one or more of {', '.join(STATUSES)}, with commas between, are expected")
    return chosen


def _count(text: str) -> int:
    return _within(text, 1, 1_000_000)


def _disk_count(text: str) -> int:
    return _within(text, 0, MAX_DISKS)


def _amount(text: str) -> int:
    return _within(text, 0, 2**63 - 1)


def _within(text: str, lowest: int, highest: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19 or not lowest <= int(text) <= highest:
        raise argparse.ArgumentTypeError(f"a whole number from {lowest} to {highest} is expected")
    return int(text)


def _vm(text: str) -> str:
    return _printable(text, MAX_VM_NAME)


def _job_id(text: str) -> str:
    return _printable(text, MAX_JOB_ID)


def _printable(text: str, most: int) -> str:
    if not 1 <= len(text) <= most or not text.isprintable():
        raise argparse.ArgumentTypeError(f"1 to {most} printable characters are expected")
    return text
