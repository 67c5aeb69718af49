"""From when until when a certificate is valid, and what is to be said of it. Pure.

The standard library tells the dates of a peer's certificate only. These are read from the certificate's own bytes,
which OpenSSL has taken before: a walk to the fourth or fifth member of its first part (RFC 5280, 4.1).
"""

import datetime
import re
import ssl
from collections.abc import Iterator

from msgspec import Struct

DAY = 86_400.0
RENEW_DAYS = 14
"""Before the end. What renews a certificate by itself does so a month before: something is wrong then."""
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
_VERSION = 0xA0
_UTC_TIME = 0x17


class Validity(Struct, frozen=True):
    """Unix seconds."""

    begins: float
    ends: float

    def objection(self, now: float) -> str:
        """Why nobody trusts it now; empty where somebody may."""
        if now > self.ends:
            return f"it expired on {_day(self.ends)}"
        if now < self.begins:
            return f"it is not valid before {_day(self.begins)}: is the clock right?"
        return ""

    def warning(self, now: float) -> str:
        """What to say while there is time; empty where there is more than enough."""
        left = self.ends - now
        if left < RENEW_DAYS * DAY:
            return f"it expires on {_day(self.ends)}, in {max(left, 0) / DAY:.0f} days"
        return ""


def validity(pem: str) -> Validity:
    """Of the first certificate in a file: the server's own. ValueError where there is none."""
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("expected a certificate in PEM")
    der = ssl.PEM_cert_to_DER_cert(found[0])
    try:
        _, certificate = next(_members(der))
        _, signed = next(_members(certificate))
        members = [content for tag, content in _members(signed) if tag != _VERSION]
        begins, ends = (_time(tag, content) for tag, content in _members(members[3]))
    except (IndexError, StopIteration, ValueError):
        raise ValueError("expected a certificate with its dates") from None
    return Validity(begins, ends)


def _members(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each value in a row."""
    at = 0
    while at < len(der):
        tag, size, at = der[at], der[at + 1], at + 2
        if size >= 0x80:
            octets = size & 0x7F
            size, at = int.from_bytes(der[at : at + octets], "big"), at + octets
        yield tag, der[at : at + size]
        at += size


def _time(tag: int, content: bytes) -> float:
    """Two digits of the year are of 1950 to 2049; later years have four."""
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.UTC).timestamp()


def _day(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
