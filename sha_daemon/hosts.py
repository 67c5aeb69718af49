"""By which names the hub may be called (the Host header). Pure.

A web page can have its own name point at 127.0.0.1 (DNS rebinding); somebody's browser then takes a hub on loopback for
the page's own server, and lets the page read it. Such a request carries the page's name.
"""

import functools
import ipaddress
import re
from collections.abc import Iterable

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{0,5})?", re.IGNORECASE)
_REMEMBERED = 256
"""Headers whose verdict is kept: few clients, each always with the same header."""


def host_name(header: str) -> str | None:
    """The name or address of `name:port`, lower case, without brackets or a last dot; None if it is no such thing."""
    found = _HOST.fullmatch(header)
    return found["name"].strip("[]").removesuffix(".").lower() if found else None


def is_loopback(host: str) -> bool:
    """`localhost`, 127.0.0.0/8 or ::1."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Hosts:
    """`localhost` and the loopback addresses with any port, and the names that were `allowed`."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(map(host_name, allowed))
        self.admits = functools.lru_cache(_REMEMBERED)(self._admits)

    def _admits(self, header: str) -> bool:
        name = host_name(header)
        return name is not None and (name in self._allowed or is_loopback(name))
