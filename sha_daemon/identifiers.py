"""Names of databases and users as SQL takes them. Pure: what cannot be quoted safely is refused."""

import re

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.$-]{0,63}")


class BadName(ValueError):
    """Its text is fit to be shown."""


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def checked(name: str, what: str) -> str:
    """`name`, if it is one for `what`: letters, digits and `_ . $ -`, at most 64. Raises BadName."""
    if not is_name(name):
        raise BadName(f"cannot use {name[:80]!r} as {what}: letters, digits, `_`, `.`, `$` and `-`, at most 64 of them")
    return name


def quoted(database: str) -> str:
    """As an identifier in a statement. Raises BadName."""
    return f"`{checked(database, 'the name of a database')}`"


def grant_pattern(database: str) -> str:
    """As the subject of a GRANT, where `_` would stand for any character and must be escaped. Raises BadName."""
    return quoted(database).replace("_", r"\_")


def local_user(user: str) -> str:
    """`'user'@'localhost'`. Raises BadName."""
    return f"'{checked(user, 'the name of a user')}'@'localhost'"


def user_anywhere(user: str) -> str:
    """`'user'@'%'`: from whichever machine it comes. Raises BadName."""
    return f"'{checked(user, 'the name of a user')}'@'%'"
