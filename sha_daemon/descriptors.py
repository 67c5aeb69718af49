"""File descriptors: each connection takes one, and the system gives a process so many (`ulimit -n`, LimitNOFILE=).

A hub that runs out of them is deaf, and silence is then nobody's fault but its own. So it raises its limit where
it may, takes fewer connections where it may not, and says once what is left: the system as a whole can run out, too.
"""

import asyncio
import logging
import resource
from collections.abc import Callable
from typing import Any

from msgspec import structs

from sha_daemon.config import Listen
from telemetry_common.logs import fields
from telemetry_common.settings import SettingsError

log = logging.getLogger(__name__)

RESERVE = 192
"""Beside the connections: databases, files and the libraries' own, a third of it; the rest for those that are accepted
and turned away again."""
ACCEPTED_AT_ONCE = 32
"""In one turn of the loop. Whoever is turned away holds a descriptor for three turns."""
_EXHAUSTED = "out of system resource"
"""What asyncio says of an accept(2) for which there is no descriptor or memory. It tries again after a second."""


def limit_for(connections: int) -> int:
    """The limit on descriptors, raised before if `connections` need it and the hard limit allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + RESERVE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    except (OSError, ValueError):  # a sandbox may forbid it
        return soft
    return raised


def fitting(listen: Listen, limit: int) -> Listen:
    """`listen` with no more connections than `limit` descriptors have room for. SettingsError where that is none."""
    room = limit - RESERVE
    if room < 1:
        raise SettingsError(
            f"cannot start: the limit on file descriptors is {limit}, and the hub needs {RESERVE} beside one for each "
            f"of listen.max_connections; raise the limit (ulimit -n, LimitNOFILE=)"
        )
    return structs.replace(listen, max_connections=min(listen.max_connections, room))


def shortage(asked: Listen, taken: Listen) -> str | None:
    """What an operator should know of it where fewer connections are taken than were asked for."""
    if taken.max_connections == asked.max_connections:
        return None
    return fields(
        "too few file descriptors for listen.max_connections; fewer connections are taken",
        asked=asked.max_connections,
        taken=taken.max_connections,
        limit=taken.max_connections + RESERVE,
        needed=asked.max_connections + RESERVE,
    )


class Exhaustion:
    """Whether connections wait because there is no descriptor (or memory) for them. Said on the edges."""

    def __init__(self, on_turned_away: Callable[[], None]) -> None:
        self._on_turned_away = on_turned_away
        self._lasts = False

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A loop's exception handler. Without it each attempt would leave dozens of tracebacks in the journal."""
        if _EXHAUSTED not in str(context.get("message")):
            loop.default_exception_handler(context)
            return
        self._on_turned_away()
        if not self._lasts:
            self._lasts = True
            log.error(fields("cannot accept connections; they wait", reason=context.get("exception")))

    def over(self) -> None:
        """A connection was accepted."""
        if self._lasts:
            self._lasts = False
            log.warning("connections are accepted again")
