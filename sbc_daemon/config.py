"""Every setting of the sidecar: type, default, unit and reason. docs and the shipped config.toml come from here."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Struct, field

from telemetry_common.settings import about

DEFAULT_PATH = "/etc/sbc-daemon/config.toml"
PREFIX = "SBC"


class Hub(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[str, about("The hub. The default is the near end of the appliance's tunnel.")] = (
        "http://127.0.0.1:8082"
    )
    fallback_urls: Annotated[
        tuple[str, ...],
        about(
            "Other ways to the hub, or another on its database: tried in this order when `url` does not serve.\n"
            "While one of them is used, every 30 s it is looked whether an earlier one is back.",
            max_length=7,
        ),
    ] = ()
    token_file: Annotated[
        str,
        about(
            "The file with the token that the hub wants: one line, mode 0600, owned by the sidecar's user.\n"
            "Read again on SIGHUP. Empty: no token is sent."
        ),
    ] = ""
    ca_file: Annotated[
        str,
        about(
            "Certificates (PEM) of the CAs that may vouch for a hub at https://. Read again on SIGHUP.\n"
            "Empty: those that the system trusts."
        ),
    ] = ""
    timeout_seconds: Annotated[float, about("An answer slower than this counts as none.", gt=0, le=600)] = 15.0
    max_in_flight: Annotated[int, about("Requests under way at once, each for another job.", ge=1, le=256)] = 8

    def __post_init__(self) -> None:
        for key, url in (("url", self.url), *(("fallback_urls", url) for url in self.fallback_urls)):
            if not _is_address(url):
                raise ValueError(f"`{key}` must be http://HOST[:PORT] or https://HOST[:PORT], not {url!r}")
        if len(set(self.urls)) < len(self.urls):
            raise ValueError("`fallback_urls` must be other URLs than `url`, and each must be there once")
        _absolute("token_file", self.token_file)
        _absolute("ca_file", self.ca_file)
        if self.ca_file and not self.with_tls:
            raise ValueError("`ca_file` is given, but no URL is https://")

    @property
    def urls(self) -> tuple[str, ...]:
        """All of them, in the order in which they are tried."""
        return (self.url, *self.fallback_urls)

    @property
    def with_tls(self) -> bool:
        return any(url.startswith("https://") for url in self.urls)


def _absolute(key: str, path: str) -> None:
    if path and not path.startswith("/"):
        raise ValueError(f"`{key}` must be an absolute path, not {path!r}")


def _is_address(url: str) -> bool:
    """A web address and nothing besides: no user, no password (secrets come from files), no query."""
    try:
        parts = urlsplit(url)
        complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return complete and url.isprintable() and not any(mark in url for mark in " @?#")


class Socket(Struct, frozen=True, forbid_unknown_fields=True):
    path: Annotated[
        str,
        about("Where producers write.\nUnder socket activation sbc-daemon.socket owns it and this must agree with it."),
    ] = "/run/sbc-daemon/progress.sock"
    control: Annotated[str, about("Where `sbcctl` asks (HTTP on a Unix socket).")] = "/run/sbc-daemon/control.sock"
    max_connections: Annotated[int, about("Producers connected at once.", ge=1, le=10_000)] = 512

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or not self.control.startswith("/") or self.path == self.control:
            raise ValueError("`path` and `control` must be two different absolute paths")


class CadenceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    interval_seconds: Annotated[float, about("At most this long between two messages of a job with news.", gt=0)] = 5.0
    milestone_points: Annotated[float, about("Points of progress that are news at once.", gt=0, le=100)] = 10.0


class OutboxSettings(Struct, frozen=True, forbid_unknown_fields=True):
    directory: Annotated[str, about("Where undelivered messages are kept (StateDirectory of the service).")] = (
        "/var/lib/sbc-daemon"
    )
    max_bytes: Annotated[int, about("Cap of its use of the disk, dead letters included.", ge=1 << 20)] = 64 << 20

    def __post_init__(self) -> None:
        if not self.directory.startswith("/"):
            raise ValueError(f"`directory` must be an absolute path, not {self.directory!r}")


class Service(Struct, frozen=True, forbid_unknown_fields=True):
    log_level: Annotated[Literal["debug", "info", "warning", "error"], about("How much is logged.")] = "info"
    descriptor_store: Annotated[
        int,
        about(
            "Connections and attached processes that systemd keeps over a restart, as FileDescriptorStoreMax= of the "
            "unit.\n"
            "systemd says it itself from version 254 on. 0: none, producers connect again.",
            ge=0,
            le=16_384,
        ),
    ] = 1536
    stop_seconds: Annotated[
        float, about("On SIGTERM: seconds to finish what was accepted before it closes.", gt=0, le=600)
    ] = 10.0


class SidecarSettings(Struct, frozen=True, forbid_unknown_fields=True):
    hub: Hub = field(default_factory=Hub)
    socket: Socket = field(default_factory=Socket)
    cadence: CadenceSettings = field(default_factory=CadenceSettings)
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    service: Service = field(default_factory=Service)
