"""What readers may ask for in a query string. Pure: parameters in, checked values or a Problem that names one out.

A parameter that is not known is refused: a filter that was silently ignored would give an answer to another question.
"""

from collections.abc import Mapping
from typing import get_args

from sha_daemon import cursor as cursors
from sha_daemon.database import MAX_PAGE
from sha_daemon.records import StoredStatus
from sha_daemon.replies import Problem
from sha_daemon.thinning import MAX_POINTS, MIN_POINTS
from telemetry_common.text import printable

DEFAULT_PAGE = 100
MAX_VM_NAME = 255
"""As long as the column."""
STATUSES: tuple[StoredStatus, ...] = get_args(StoredStatus)
_SHOWN = 50
"""Of a name that somebody made up, at most so much is repeated to them."""


def only(query: Mapping[str, str], *known: str) -> None:
    """Every parameter is one of these, and given once. Raises Problem."""
    given = [pair[0] for pair in query.items()]  # a MultiDict tells of repetition only here
    for name in given:
        if name not in known:
            takes = f"this resource takes: {', '.join(known)}" if known else "this resource takes none"
            raise Problem(400, f"unknown query parameter `{printable(name[:_SHOWN])}`; {takes}")
        if given.count(name) > 1:
            raise Problem(400, f"`{name}` is given twice")


def statuses(query: Mapping[str, str]) -> list[StoredStatus]:
    """`status`, several by comma; empty: all. Raises Problem."""
    asked = [status for status in query.get("status", "").split(",") if status]
    for status in asked:
        if status not in STATUSES:
            raise Problem(400, f"`status` '{printable(status[:_SHOWN])}' is not one of {', '.join(STATUSES)}")
    return [status for status in STATUSES if status in asked]


def limit(query: Mapping[str, str]) -> int:
    """`limit`: jobs on the page. Raises Problem."""
    return _whole(query, "limit", DEFAULT_PAGE, 1, MAX_PAGE)


def vm(query: Mapping[str, str]) -> str:
    """`vm`: part of a virtual machine's name, as typed into a search box; empty: any. Raises Problem."""
    text = query.get("vm", "")
    if len(text) > MAX_VM_NAME:
        raise Problem(400, f"`vm` must be text of at most {MAX_VM_NAME} characters")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise Problem(400, "`vm` must be text in UTF-8")
    return text


def cursor(query: Mapping[str, str]) -> str | None:
    """`cursor`: where the page before ended; None for the first page. Raises Problem."""
    given = query.get("cursor")
    try:
        return None if given is None else cursors.text(cursors.place(given))
    except ValueError:
        raise Problem(400, "`cursor` is not one that this hub gave out; begin without one") from None


def points(query: Mapping[str, str]) -> int:
    """`points`: samples for a chart. Raises Problem."""
    return _whole(query, "points", MAX_POINTS, MIN_POINTS, MAX_POINTS)


def _whole(query: Mapping[str, str], name: str, otherwise: int, lowest: int, highest: int) -> int:
    text = query.get(name, str(otherwise))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and lowest <= int(text) <= highest):
        raise Problem(400, f"`{name}` must be a whole number from {lowest} to {highest}")
    return int(text)
