"""Every setting of the sidecar: type, default, unit and reason. docs and the shipped config.toml come from here."""

from ipaddress import ip_address
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
    proxy_url: Annotated[
        str,
        about(
            "An HTTP proxy on the way to the hub, http://HOST[:PORT]; a hub on loopback is never asked through it.\n"
            "Empty: none, whatever variables like `https_proxy` say."
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
        if self.proxy_url and not (_is_address(self.proxy_url) and self.proxy_url.startswith("http://")):
            raise ValueError(f"`proxy_url` must be http://HOST[:PORT], not {self.proxy_url!r}")
        if self.ca_file and not self.with_tls:
            raise ValueError("`ca_file` is given, but no URL is https://")

    @property
    def urls(self) -> tuple[str, ...]:
        """All of them, in the order in which they are tried."""
        return (self.url, *self.fallback_urls)

    def proxy_for(self, url: str) -> str | None:
        """What stands between this client and the hub at this URL, if anything does."""
        return self.proxy_url if self.proxy_url and not is_loopback(urlsplit(url).hostname or "") else None

    @property
    def with_tls(self) -> bool:
        return any(url.startswith("https://") for url in self.urls)


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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


class Metrics(Struct, frozen=True, forbid_unknown_fields=True):
    listen: Annotated[
        str,
        about(
            "Where Prometheus may ask for the sidecar's figures (GET /metrics): a loopback address (`127.0.0.1:9469`,\n"
            "`[::1]:9469`), or the absolute path of a Unix socket. Empty: nowhere, but for sbc-daemon-metrics.socket.\n"
            "It shows no name of a job, and asks for no token: no other address is taken."
        ),
    ] = ""

    def __post_init__(self) -> None:
        if self.listen and not self.listen.startswith("/") and not _is_loopback_address(self.listen):
            raise ValueError(
                f"`listen` must be a loopback address with its port, or an absolute path, not {self.listen!r}"
            )


def tcp_address(listen: str) -> tuple[str, int]:
    """HOST:PORT or [HOST]:PORT, as two. Raises ValueError."""
    host, _, port = listen.rpartition(":")
    return host.removeprefix("[").removesuffix("]") if host.startswith("[") else host, int(port)


def _is_loopback_address(listen: str) -> bool:
    try:
        host, port = tcp_address(listen)
        bracketed = listen.startswith("[")
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback and 0 < port < 65536 and bracketed is (address.version == 6)


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
    metrics: Metrics = field(default_factory=Metrics)
    service: Service = field(default_factory=Service)
