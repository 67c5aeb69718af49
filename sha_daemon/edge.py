"""What stands between the network and the hub, from its settings: the gate and the certificate."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from sha_daemon.config import HubSettings, host_and_port
from sha_daemon.gate import Gate
from sha_daemon.hosts import Hosts, is_loopback
from sha_daemon.tls import Certificate
from sha_daemon.tokens import BadTokens, Tokens, parse
from telemetry_common.settings import SettingsError


class Edge:
    """Raises SettingsError where a file that the settings name cannot be used."""

    def __init__(self, settings: HubSettings) -> None:
        listen, tls = settings.listen, settings.tls
        self._loopback = is_loopback(host_and_port(listen.address)[0])
        hosts = Hosts(listen.allowed_hosts) if self._loopback or listen.allowed_hosts else None
        self._tokens_file = Path(settings.access.tokens_file) if settings.access.tokens_file else None
        self.gate = Gate(hosts, _read(self._tokens_file) if self._tokens_file else None)
        self.certificate = Certificate(Path(tls.certificate), Path(tls.key)) if tls.certificate else None

    @property
    def reloadable(self) -> Mapping[str, Callable[[], str]]:
        """What reads its file again on SIGHUP, by its name in the journal."""
        parts: dict[str, Callable[[], str]] = {}
        if self._tokens_file is not None:
            parts["tokens"] = partial(self._reload_tokens, self._tokens_file)
        if self.certificate is not None:
            parts["certificate"] = self.certificate.reload
        return parts

    def _reload_tokens(self, path: Path) -> str:
        self.gate.tokens = _read(path)
        return f"{len(self.gate.tokens)} known"

    def must_be_valid_now(self) -> None:
        """Raises SettingsError for what a start would serve and nobody trusts."""
        if self.certificate is not None:
            self.certificate.must_be_valid_now()

    def warnings(self) -> Iterator[str]:
        """What an operator should have meant when the hub can be reached from elsewhere."""
        if not self._loopback and self.gate.tokens is None:
            yield "whoever reaches the address may report and read: access.tokens_file is not set"
        if not self._loopback and self.certificate is None:
            yield "what is reported and read crosses the network in clear: tls.certificate is not set"


def _read(path: Path) -> Tokens:
    try:
        return parse(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"cannot read {path} (access.tokens_file): {reason}") from None
    except BadTokens as error:
        raise SettingsError(f"cannot use {path} (access.tokens_file): {error}") from None
