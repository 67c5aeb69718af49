"""What `sbcctl doctor` finds where it asks the hub itself, as the daemon would: health, certificate, clock, token."""

import email.utils
import http.client
import json
import ssl
import time
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from sbc_daemon.config import Hub
from sbc_daemon.doctor_finding import Finding, Level
from sbc_daemon.hub_trust import distrust, no_tls
from telemetry_common import __version__
from telemetry_common.text import duration

ANSWER_SECONDS = 5.0
MAX_ANSWER_BYTES = 64 << 10
SKEW_SECONDS = 5.0
"""Clocks that differ by less agree: a `Date` is in whole seconds, and was true somewhen during the request."""
RENEW_SECONDS = 14 * 86400.0
_DAY = 86400.0


class Heard(Struct, frozen=True, kw_only=True):
    """One answer. `skew_seconds` is how far this machine's clock is ahead of the hub's, `expires` the certificate's end
    in Unix seconds; None where it cannot be told. `trouble` says why there is no answer.
    """

    status: int = 0
    body: bytes = b""
    took_seconds: float = 0.0
    skew_seconds: float | None = None
    expires: float | None = None
    trouble: str = ""


def ask(hub: Hub, url: str, tls: ssl.SSLContext | None, path: str, body: bytes | None = None, token: str = "") -> Heard:
    """One request to the hub at this URL, the way the daemon goes. Never raises for what the network does."""
    parts = urlsplit(url)
    began, started = time.time(), time.monotonic()
    try:
        connection, target = _connection(hub, parts, tls, path)
    except ValueError as error:
        return Heard(trouble=str(error))
    headers = {"User-Agent": f"sbcctl/{__version__}", "Content-Type": "application/json", "Connection": "close"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request("GET" if body is None else "POST", target, body, headers)
        expires = _expires(connection)
        response = connection.getresponse()
        said = response.read(MAX_ANSWER_BYTES)
    except ssl.SSLCertVerificationError as error:
        return Heard(trouble=distrust(error, parts.hostname or ""))
    except ssl.SSLError as error:
        return Heard(trouble=no_tls(error))
    except TimeoutError:
        return Heard(trouble=f"no answer within {ANSWER_SECONDS:g} s")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Heard(trouble=str(getattr(error, "strerror", None) or error or type(error).__name__))
    finally:
        connection.close()
    took = time.monotonic() - started
    skew = _skew(response.headers.get("Date", ""), began, took)
    return Heard(status=response.status, body=said, took_seconds=took, skew_seconds=skew, expires=expires)


def _connection(
    hub: Hub, parts: SplitResult, tls: ssl.SSLContext | None, path: str
) -> tuple[http.client.HTTPConnection, str]:
    host, port, secure = (
        parts.hostname or "",
        parts.port or (443 if parts.scheme == "https" else 80),
        parts.scheme == "https",
    )
    target = parts.path.rstrip("/") + path
    proxy = hub.proxy_for(parts.geturl())
    via = urlsplit(proxy) if proxy else None
    first, first_port = (via.hostname or "", via.port or 80) if via else (host, port)
    if not secure:
        plain = http.client.HTTPConnection(first, first_port, timeout=ANSWER_SECONDS)
        return plain, f"{parts.scheme}://{parts.netloc}{target}" if via else target
    connection = http.client.HTTPSConnection(first, first_port, timeout=ANSWER_SECONDS, context=tls)
    if via:
        connection.set_tunnel(host, port)
    return connection, target


def _expires(connection: http.client.HTTPConnection) -> float | None:
    """Before the answer is read: with it the connection may be gone."""
    shown = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
    ends = (shown or {}).get("notAfter")
    return ssl.cert_time_to_seconds(ends) if isinstance(ends, str) else None


def _skew(date: str, began: float, took: float) -> float | None:
    """From the middle of the request, and of the second that the header names."""
    try:
        return began + took / 2 - (email.utils.parsedate_to_datetime(date).timestamp() + 0.5)
    except (ValueError, TypeError, OverflowError):
        return None


def is_hubs(heard: Heard) -> bool:
    """Whether it is a hub's word on its health: anything may listen at an address and answer 200."""
    try:
        said = json.loads(heard.body)
    except (ValueError, RecursionError):
        return False
    expected = heard.status in (http.client.OK, http.client.SERVICE_UNAVAILABLE)
    return expected and isinstance(said, dict) and {"status", "database"} <= said.keys()


def health(url: str, heard: Heard, *, first: bool) -> Finding:
    """`first`: it is the one in use where it serves; of the others a fault is a warning."""
    failed: Level = "fail" if first else "warning"
    if heard.trouble:
        cure = "is the tunnel or the hub down, or hub.url wrong?"
        return Finding(failed, "hub", f"{url} cannot be reached from here: {heard.trouble}", cure)
    if is_hubs(heard) and heard.status == http.client.OK:
        return Finding("ok", "hub", f"{url} is well, and answered in {1000 * heard.took_seconds:.0f} ms")
    if is_hubs(heard):
        return Finding(
            "warning", "hub", f"{url} is there and cannot do its work: {_reason(heard)}", "look after the hub"
        )
    if heard.status == http.client.MISDIRECTED_REQUEST:
        return Finding(failed, "hub", f"{url} is not a name of the hub's", "add it to listen.allowed_hosts on the hub")
    return Finding(failed, "hub", f"{url} answers {heard.status}: {_reason(heard)}", "is it the hub?")


def certificate(url: str, heard: Heard, now: float) -> Iterator[Finding]:
    if heard.expires is None:
        return
    left = heard.expires - now
    date = time.strftime("%Y-%m-%d", time.gmtime(heard.expires))
    words = f"the certificate of {url} is trusted, and ends on {date}"
    if left < RENEW_SECONDS:
        yield Finding("warning", "tls", f"{words}, in {max(0.0, left) / _DAY:.0f} days", "renew it on the hub")
    else:
        yield Finding("ok", "tls", words)


def clock(heard: Heard) -> Finding:
    """Nothing of a job depends on it; certificates and people who compare journals do."""
    skew = heard.skew_seconds
    if skew is None:
        return Finding("unknown", "clock", "no hub has said what time it is")
    if abs(skew) <= SKEW_SECONDS + heard.took_seconds / 2:
        return Finding("ok", "clock", "agrees with the hub's, to within some seconds")
    where = "ahead of" if skew > 0 else "behind"
    cure = "set one of them right (timedatectl); jobs do not depend on it, certificates do"
    return Finding("warning", "clock", f"this machine's is {duration(abs(skew))} {where} the hub's", cure)


def token(heard: Heard | None, *, shown: bool, seen: bool | None) -> Finding:
    """`heard`: the answer to what could be shown here, if anything could; `shown`: a token was. `seen`: whether the hub
    lets the daemon in, as far as that has learnt. Nobody is said to be refused who may be let in.
    """
    then = "reload" if shown else "restart"  # a key that is new takes effect with a start
    cure = f"see `Who may ask and report` in operations.md; then systemctl {then} sbc-daemon"
    if seen is False:
        return Finding("fail", "token", "the hub does not let the daemon in (401 or 403)", cure)
    status = heard.status if heard is not None and not heard.trouble else 0
    if seen:
        return Finding("ok", "token", "the hub lets the daemon in")
    if status == http.client.UNAUTHORIZED and not shown:
        words = "the hub wants a token, and no hub.token_file is configured here (the unit may have one)"
        return Finding("warning", "token", words, cure)
    if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN) and heard is not None:
        return Finding("fail", "token", f"the hub does not let this client in: {status} {_reason(heard)}", cure)
    if 200 <= status < 500:
        return Finding("ok", "token", "the hub lets this client in")
    return Finding("unknown", "token", "nobody here can tell whether the hub lets the daemon in")


def _reason(heard: Heard) -> str:
    """The hub's own words: problem+json's detail, or health's status line."""
    try:
        said = json.loads(heard.body)
    except (ValueError, RecursionError):
        return http.client.responses.get(heard.status, "not a hub's answer")
    if not isinstance(said, dict):
        return "not a hub's answer"
    return str(said.get("detail") or said.get("status") or said.get("title") or "it says no more")[:200]
