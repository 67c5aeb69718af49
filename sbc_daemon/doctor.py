"""`sbcctl doctor`: is everything there that a report needs on its way from a producer to the hub? One line a check.

What cannot be told from here is called unknown, never well or broken. It changes nothing: the hub is asked for its
health, and handed a batch without an update in it to learn whether the token is let in.
"""

import os
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct, structs

from sbc_daemon import doctor_daemon, doctor_hub, doctor_machine
from sbc_daemon.config import PREFIX, Hub, SidecarSettings
from sbc_daemon.doctor_finding import Finding
from sbc_daemon.doctor_hub import Heard
from sbc_daemon.hub_token import read_token
from sbc_daemon.sbcctl_ask import CannotAsk, ask
from sbc_daemon.status import Status
from telemetry_common import __version__, settings
from telemetry_common.trust import trusting

_EMPTY_BATCH = b'{"updates":[]}'


class _Token(Struct, frozen=True):
    """`known`: what the daemon shows is what could be read here."""

    text: str = ""
    known: bool = True


def diagnose(config: Path, environ: Mapping[str, str] = os.environ, *, must_exist: bool = False) -> list[Finding]:
    """In the order of a report's way."""
    try:
        sidecar = settings.load(SidecarSettings, config, PREFIX, environ, must_exist=must_exist)
    except settings.SettingsError as error:
        return [
            Finding("fail", "config", str(error), "mend it; sbc-daemon --check tells when it is right"),
            Finding("unknown", "rest", "everything else depends on the configuration"),
        ]
    return list(_findings(sidecar, config, environ))


def _findings(sidecar: SidecarSettings, config: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    yield doctor_machine.configuration(config, sorted((config.parent / "conf.d").glob("*.toml")))
    yield from doctor_machine.producers_socket(sidecar.socket.path)
    status = None
    try:
        status = ask(sidecar.socket.control, "/status", Status)
    except CannotAsk as error:
        yield Finding("fail", "daemon", str(error))
        yield Finding("unknown", "outbox", "the daemon cannot be asked for it")
    else:
        yield from doctor_daemon.daemon(status, sidecar, __version__)
    used = status.outbox.bytes_used if status is not None else 0
    yield doctor_machine.disk(sidecar.outbox.directory, max(0, sidecar.outbox.max_bytes - used))
    yield from _hub(sidecar.hub, status, environ)


def _hub(hub: Hub, status: Status | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        tls = trusting(hub.ca_file) if hub.with_tls else None
    except settings.SettingsError as error:
        yield _unusable("tls", hub.ca_file, error)
        yield Finding("unknown", "hub", "it cannot be asked without the CAs to trust")
        return
    heard = {url: doctor_hub.ask(hub, url, tls, "/api/v1/health") for url in hub.urls}
    for url, answer in heard.items():
        yield doctor_hub.health(url, answer, first=url == hub.url)
        yield from doctor_hub.certificate(url, answer, time.time())
    yield doctor_machine.proxies(hub, environ, reached=not heard[hub.url].trouble)
    answered = [url for url, answer in heard.items() if doctor_hub.is_hubs(answer)]
    yield doctor_hub.clock(heard[answered[0]] if answered else Heard())
    yield from _token(hub, answered, tls, status, environ)


def _token(
    hub: Hub, answered: list[str], tls: ssl.SSLContext | None, status: Status | None, environ: Mapping[str, str]
) -> Iterator[Finding]:
    try:
        token = _readable(hub, environ)
    except settings.SettingsError as error:
        yield Finding("fail", "token", str(error), "mend it, then systemctl restart sbc-daemon")
        return
    asked = None
    if answered and token.known:
        asked = doctor_hub.ask(hub, answered[0], tls, "/api/v1/telemetry/batch", _EMPTY_BATCH, token.text)
    finding = doctor_hub.token(asked, shown=bool(token.text), seen=doctor_daemon.token_seen(status))
    hidden = finding.level == "unknown" and not token.known
    yield structs.replace(finding, cure="ask as root: the token is not to be read here") if hidden else finding


def _readable(hub: Hub, environ: Mapping[str, str]) -> _Token:
    """Raises SettingsError where the daemon could use it as little."""
    if not hub.token_file:
        return _Token()
    if not os.access(hub.token_file, os.R_OK) and os.geteuid() != 0:
        return _Token(known=False)
    return _Token(read_token(Path(hub.token_file), environ))


def _unusable(check: str, path: str, error: settings.SettingsError) -> Finding:
    """A file that only the daemon may read says nothing against it."""
    if os.access(path, os.F_OK) and not os.access(path, os.R_OK):
        return Finding("unknown", check, str(error), "ask as root")
    return Finding("fail", check, str(error), "mend it, then systemctl reload sbc-daemon")
