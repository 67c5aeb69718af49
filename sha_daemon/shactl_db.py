"""shactl db: setup, migrate, status. They run as whoever calls them; setup and migrate need an administrator."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sha_daemon import migrations, provisioning, schema
from sha_daemon.config import HubSettings
from sha_daemon.database import SchemaMissing
from sha_daemon.identifiers import quoted
from sha_daemon.job_types import BACKUP
from sha_daemon.mariadb import Link, connect
from sha_daemon.shactl_answers import NO, OK, answered, complain
from telemetry_common.text import printable


def add_commands(groups: "argparse._SubParsersAction[Any]") -> None:
    group = groups.add_parser("db", help="the hub's database", description="Make and look after the hub's database.")
    commands = group.add_subparsers(title="commands", required=True, metavar="COMMAND")

    setup = commands.add_parser(
        "setup",
        help="make the database, its user and its grants",
        description="Make the database and a user that MariaDB knows by the system user of the same name; grant it to "
        "read and write rows, no more. Safe to run again. Run it as an administrator of the database (root). "
        "Where `database.hosts` is set it only prints what an administrator there has to do.",
    )
    setup.add_argument("--user", metavar="NAME", help="database user (default: the configured one)")
    setup.set_defaults(command=answered(_setup))

    migrate = commands.add_parser(
        "migrate",
        help="bring the tables up to date",
        description="Apply the migrations that were not applied yet. Safe to run again, also after it was killed, and "
        "while the hub runs. Run it as an administrator of the database (root).",
    )
    migrate.set_defaults(command=answered(_migrate))

    status = commands.add_parser(
        "status",
        help="are the tables up to date?",
        description="Exit 0 if the tables are as the hub needs them, 1 if not, 2 if the database cannot be reached.",
    )
    status.set_defaults(command=answered(_status))


@contextmanager
def _administrator(settings: HubSettings, *, patient: bool = False) -> Iterator[Link]:
    link = connect(settings.database, daemon=False, patient=patient)
    try:
        yield link
    finally:
        link.close()


def _setup(settings: HubSettings, chosen: argparse.Namespace) -> int:
    name, user = settings.database.name, chosen.user or settings.database.user
    if settings.database.hosts:
        print(provisioning.elsewhere(name, user, with_tls=settings.database.tls))
        return OK
    with _administrator(settings) as link:
        done = provisioning.provision(link, name, user)
    print(f"database {name}: {'made' if done.made_database else 'was there'}")
    print(f"user {user}: {'made' if done.made_user else 'was there'}, known by {printable(done.plugin)}")
    print(f"granted to {user} on {name}: {provisioning.RIGHTS}")
    print("next: shactl db migrate")
    return OK


def _migrate(settings: HubSettings, chosen: argparse.Namespace) -> int:
    name = settings.database.name
    with _administrator(settings, patient=True) as link:
        applied = _applied(migrations.applying(link, name, migrations.known()))
        lost = schema.missing(link, BACKUP)
        for what in lost:
            print(f"no longer there: {what}", flush=True)
        if lost and not {BACKUP.jobs_table, BACKUP.disks_table} & set(lost):
            applied += _applied(migrations.applying(link, name, migrations.known(), again=True))
            lost = schema.missing(link, BACKUP)
    if lost:
        complain(f"cannot make {', '.join(lost)}: what other programs share with the hub must come from them or a dump")
    elif not applied:
        print("nothing to do")
    return NO if lost else OK


def _applied(done_in_turn: Iterator[migrations.Applied]) -> int:
    """Say each as it is done; how many they were."""
    count = 0
    for migration in done_in_turn:
        count += 1
        print(f"applied {migration.name}", flush=True)
        for what, number in migration.counts:
            print(f"  {what}: {number}", flush=True)
    return count


def _status(settings: HubSettings, chosen: argparse.Namespace) -> int:
    name = settings.database.name
    with _administrator(settings) as link:
        try:
            link.execute(f"USE {quoted(name)}")
        except SchemaMissing:
            print(f"no database {name}; run `shactl db setup`, then `shactl db migrate`")
            return NO
        waiting = migrations.pending(link, name, migrations.known())
        lacking = schema.missing(link, BACKUP)
    for migration in waiting:
        print(f"not applied: {migration}")
    for what in lacking:
        print(f"missing: {what}")
    print(f"database {name}: run `shactl db migrate`" if waiting or lacking else f"database {name}: up to date")
    return NO if waiting or lacking else OK
