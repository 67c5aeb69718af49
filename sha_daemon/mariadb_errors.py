"""What the server's error numbers mean for the hub. Pure: one table, used wherever a statement can fail."""

from sha_daemon.database import (
    DatabaseAway,
    DatabaseConflict,
    DatabaseError,
    DatabaseMissing,
    RowLocked,
    RowRefused,
    SchemaMissing,
)

_CONFLICT = frozenset({1020, 1213})
"""Row changed since it was read; deadlock (a Galera cluster's certification failure among them)."""
_LOCK_WAIT = 1205
_NO_DATABASE = 1049
_SCHEMA = frozenset({1054, 1146, 1176})
"""No such column, table, index."""
_DENIED = frozenset({1044, 1045, 1142, 1143, 1227, 1698})
"""No such user, or not allowed: cured by an administrator, not by trying other rows."""
_AWAY = frozenset({1021, 1030, 1040, 1041, 1047, 1053, 1114, 1129, 1180, 1203, 1226, 1290, 1317, 1836, 1927, 1969})
"""The server as a whole cannot now: disk full, too many connections, shutting down, not (yet) part of its cluster, read
only, statement or connection ended from outside. No row is to blame."""


class NotAllowed(DatabaseAway):
    """This user may not log in, or not do that. Trying again helps only after an administrator has granted it."""


def translated(code: int, text: str) -> DatabaseError:
    """The hub's word for the server's (1000 and up) or the client library's error (2000 to 2999, or none: 0)."""
    if code in _CONFLICT:
        return DatabaseConflict(f"cannot go on with the transaction: {text} [{code}]")
    if code == _LOCK_WAIT:
        return RowLocked(f"cannot wait for a row that another program holds: {text} [{code}]")
    if code == _NO_DATABASE:
        return DatabaseMissing(
            f"cannot use the database: {text} [{code}]; is `database.name` right? "
            "else run `shactl db setup`, then `shactl db migrate`"
        )
    if code in _SCHEMA:
        return SchemaMissing(f"cannot use the tables: {text} [{code}]; run `shactl db migrate`")
    if code in _DENIED:
        return NotAllowed(
            f"cannot use the database: {text} [{code}]; run `shactl db setup`, then `shactl db migrate`, as root"
        )
    if code in _AWAY or code < 1000 or 2000 <= code < 3000:
        return DatabaseAway(f"cannot reach the database: {text} [{code}]")
    return RowRefused(f"cannot store the row: {text} [{code}]")
