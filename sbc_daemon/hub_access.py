"""By what the hub and this client know each other: token and trusted CAs, from files that are read again on SIGHUP."""

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sbc_daemon.config import Hub, is_loopback
from sbc_daemon.hub_token import read_token
from telemetry_common.logs import fields
from telemetry_common.trust import trusting


class HubAccess:
    """Raises SettingsError where a file that the settings name cannot be used; on a reload what runs then goes on.

    `tls` is None where no hub speaks it; another context is there after a reload.
    """

    def __init__(self, hub: Hub, environ: Mapping[str, str] = os.environ) -> None:
        self._hub = hub
        self._environ = environ
        self._token = self._read_token()
        self.tls = self._read_trust()

    @property
    def headers(self) -> Mapping[str, str]:
        """What each request has to say of its sender."""
        return {} if self._token is None else {"Authorization": f"Bearer {self._token}"}

    @property
    def reloadable(self) -> Mapping[str, Callable[[], str]]:
        """What reads its file again, by its name in the journal."""
        parts: dict[str, Callable[[], str]] = {}
        if self._hub.token_file:
            parts["token"] = self._reload_token
        if self.tls is not None:
            parts["trusted CAs"] = self._reload_trust
        return parts

    def masked(self, content: bytes) -> bytes:
        """What a server said, without the token: some repeat in an error what they were sent."""
        return content if self._token is None else content.replace(self._token.encode(), b"***")

    def warnings(self) -> Iterator[str]:
        for url in filter(_in_clear, self._hub.urls if self._token is not None else ()):
            yield fields("the token crosses the network in clear: the hub's URL is not https", url=url)

    def _read_token(self) -> str | None:
        return read_token(Path(self._hub.token_file), self._environ) if self._hub.token_file else None

    def _read_trust(self) -> ssl.SSLContext | None:
        return trusting(self._hub.ca_file) if self._hub.with_tls else None

    def _reload_trust(self) -> str:
        self.tls = self._read_trust()
        return self._hub.ca_file or "the system's"

    def _reload_token(self) -> str:
        before, self._token = self._token, self._read_token()
        return "as it was" if self._token == before else "another one"


def _in_clear(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")
