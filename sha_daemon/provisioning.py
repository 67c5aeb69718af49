"""What an administrator does once on a hub's server: the database, its user, its rights. Safe to run again.

The user is known by the system user of the same name (unix_socket), so there is no password to keep. It may read and
write rows and nothing else: tables are made by `shactl db migrate`, which an administrator runs.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from sha_daemon.identifiers import grant_pattern, local_user, quoted, user_anywhere

RIGHTS = "SELECT, INSERT, UPDATE, DELETE"


class Link(Protocol):
    """An administrator's connection. Raises DatabaseError only."""

    def execute(self, statement: str, *values: object) -> int: ...

    def rows(self, statement: str, *values: object) -> Sequence[Sequence[Any]]: ...


class Provisioned(Struct, frozen=True, kw_only=True):
    """`made_database`, `made_user`: it was not there before. `plugin`: how the server knows the user."""

    made_database: bool
    made_user: bool
    plugin: str


def provision(link: Link, database: str, user: str) -> Provisioned:
    """Make what is not there, and grant. Raises DatabaseError; BadName (a ValueError) for an impossible name."""
    name, pattern, account = quoted(database), grant_pattern(database), local_user(user)
    made_database = not link.rows("SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", database)
    made_user = not _plugin(link, user)
    link.execute(f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
    link.execute(f"CREATE USER IF NOT EXISTS {account} IDENTIFIED VIA unix_socket")
    link.execute(f"GRANT {RIGHTS} ON {pattern}.* TO {account}")
    return Provisioned(made_database=made_database, made_user=made_user, plugin=_plugin(link, user))


def _plugin(link: Link, user: str) -> str:
    """How the server knows the user on this machine; empty if it does not."""
    found = link.rows("SELECT plugin FROM mysql.user WHERE user = %s AND host = 'localhost'", user)
    return str(found[0][0] or "mysql_native_password") if found else ""


def elsewhere(database: str, user: str, *, with_tls: bool) -> str:
    """What the administrator of a remote server says to it, as text. Raises BadName for an impossible name."""
    name, pattern, account = quoted(database), grant_pattern(database), user_anywhere(user)
    return f"""-- The database is elsewhere (database.hosts): its administrator runs this there, with a new password
-- in place of PASSWORD, which also goes into the file that database.password_file names.
CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
CREATE USER IF NOT EXISTS {account} IDENTIFIED BY 'PASSWORD'{" REQUIRE SSL" if with_tls else ""};
GRANT {RIGHTS} ON {pattern}.* TO {account};
-- Then, here, with the name and the password of one who may make and alter tables there:
--   SHA_DATABASE_USER=admin SHA_DATABASE_PASSWORD_FILE=/root/admin.password shactl db migrate"""
