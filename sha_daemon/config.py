"""Every setting of the hub: type, default, unit and reason. docs and the shipped config.toml come from here."""

from typing import Annotated, Literal

from msgspec import Struct, field

from sha_daemon.hosts import host_name
from sha_daemon.identifiers import is_name
from sha_daemon.servers import server
from telemetry_common.settings import about

DEFAULT_PATH = "/etc/sha-daemon/config.toml"
PREFIX = "SHA"


class Listen(Struct, frozen=True, forbid_unknown_fields=True):
    address: Annotated[
        str,
        about(
            "host:port where telemetry is received. Clients reach it through the appliance's tunnel.\n"
            "Under socket activation sha-daemon.socket owns the address and this must agree with it."
        ),
    ] = "127.0.0.1:8082"
    max_connections: Annotated[
        int,
        about(
            "Senders and readers connected at once; a further one gets 503.\n"
            "Each takes a file descriptor, the hub itself 192 (LimitNOFILE= of the unit is 8192). Where there are not\n"
            "enough it takes fewer connections, and says so.",
            ge=1,
            le=100_000,
        ),
    ] = 4000
    max_streams: Annotated[
        int,
        about(
            "Readers that follow the stream of changes at once; a further one gets 503.\n"
            "Never more than half of max_connections: they must leave senders room.",
            ge=1,
            le=10_000,
        ),
    ] = 1000
    max_queue: Annotated[
        int, about("Updates waiting for the database; beyond it senders get 503 and try again.", ge=1, le=1_000_000)
    ] = 10_000
    keepalive_seconds: Annotated[
        float,
        about(
            "A connection without a request is closed after this. Well above the 5 s cadence of a sender.",
            gt=0,
            le=86_400,
        ),
    ] = 75.0
    patience_seconds: Annotated[
        float,
        about(
            "A connection is cut off when it keeps the hub waiting for so long: with the head of a request (TLS\n"
            "included), or by not taking its answer.",
            gt=0,
            le=3600,
        ),
    ] = 30.0
    allowed_hosts: Annotated[
        tuple[str, ...],
        about(
            "Names without a port by which clients may call the hub (the Host header), beside localhost and loopback\n"
            "addresses. On a loopback address every other is refused: a web page could have made it up, to reach the\n"
            "hub from somebody's browser. On a network address an empty list allows every name."
        ),
    ] = ()

    def __post_init__(self) -> None:
        host_and_port(self.address)
        for name in self.allowed_hosts:
            if host_name(name) is None or host_name(f"{name}:1") is None:
                raise ValueError(f"`allowed_hosts` must be names or addresses without a port, not {name!r}")


def host_and_port(address: str) -> tuple[str, int]:
    """`127.0.0.1:8082` or `[::1]:8082` in its two parts. Raises ValueError, fit for the operator."""
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"`address` must be HOST:PORT, such as 127.0.0.1:8082, not {address!r}")
    return host.strip("[]"), int(port)


def streams_at_once(listen: Listen) -> int:
    """Readers must leave senders room, whatever `max_streams` says."""
    return min(listen.max_streams, listen.max_connections // 2)


class Access(Struct, frozen=True, forbid_unknown_fields=True):
    tokens_file: Annotated[
        str,
        about(
            "Who may report and read: a token a line, hashed, as `shactl token create` prints it.\n"
            "Read again on SIGHUP. Empty: whoever can connect."
        ),
    ] = ""

    def __post_init__(self) -> None:
        _absolute("tokens_file", self.tokens_file)


class Tls(Struct, frozen=True, forbid_unknown_fields=True):
    certificate: Annotated[
        str,
        about(
            "The hub's certificate (PEM), those that lead to its CA behind it. With it and `key` the hub speaks TLS\n"
            "only. Both are read again on SIGHUP."
        ),
    ] = ""
    key: Annotated[str, about("Its private key (PEM, without a passphrase).")] = ""

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("`certificate` and `key` must both be given, or neither")
        _absolute("certificate", self.certificate)
        _absolute("key", self.key)


def _absolute(key: str, path: str) -> None:
    if path and not path.startswith("/"):
        raise ValueError(f"`{key}` must be an absolute path, not {path!r}")


class DatabaseSettings(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[
        str, about("The database shared with the appliance's GUI and engine.", min_length=1, max_length=64)
    ] = "migratekit_oma"
    user: Annotated[
        str, about("Database user. Over the local socket MariaDB knows it by the system user; there is no password.")
    ] = "sha"
    socket: Annotated[str, about("MariaDB's Unix socket, where `hosts` is empty.", min_length=1)] = (
        "/run/mysqld/mysqld.sock"
    )
    hosts: Annotated[
        tuple[str, ...],
        about(
            "A database elsewhere: HOST or HOST:PORT, several (the nodes of a cluster) in the order in which they are\n"
            "tried; one that serves stays in use until it fails. The hub's unit needs a drop-in for it, see docs.",
            max_length=8,
        ),
    ] = ()
    password_file: Annotated[
        str,
        about(
            "The file with the user's password for `hosts`: one line, mode 0600, owned by the hub's user.\n"
            "Read again on SIGHUP."
        ),
    ] = ""
    tls: Annotated[
        bool, about("Whether `hosts` must speak TLS, each with a certificate for the name by which it is called.")
    ] = True
    ca_file: Annotated[
        str,
        about(
            "Certificates (PEM) of the CAs that may vouch for `hosts`. Read again on SIGHUP.\n"
            "Empty: those that the system trusts."
        ),
    ] = ""
    timeout_seconds: Annotated[
        float, about("A statement or connection slower than this counts as a lost connection.", gt=0, le=600)
    ] = 20.0

    def __post_init__(self) -> None:
        for key, text in (("name", self.name), ("user", self.user)):
            if not is_name(text):
                raise ValueError(f"`{key}` must be letters, digits and _ . $ -, at most 64, not {text!r}")
        if len({server(host) for host in self.hosts}) < len(self.hosts):
            raise ValueError("`hosts` must each be there once")
        _absolute("password_file", self.password_file)
        _absolute("ca_file", self.ca_file)
        if self.hosts and not self.password_file:
            raise ValueError("`password_file` must be given with `hosts`")
        if self.password_file and not self.hosts:
            raise ValueError("`password_file` is of use only with `hosts`")
        if self.ca_file and not (self.hosts and self.tls):
            raise ValueError("`ca_file` is of use only with `hosts` and `tls`")


class Watchdog(Struct, frozen=True, forbid_unknown_fields=True):
    interval_seconds: Annotated[float, about("Seconds between two sweeps for silent jobs.", gt=0, le=3600)] = 30.0
    warn_seconds: Annotated[float, about("A running job silent for longer is warned of, once.", gt=0)] = 60.0
    fail_seconds: Annotated[
        float, about("A running job silent for longer becomes failed (revived if it is heard again).", gt=0)
    ] = 300.0
    never_heard: Annotated[
        Literal["report", "fail"],
        about(
            "A running job that never sent telemetry (an older client):\nonly report it, or fail it by its start time."
        ),
    ] = "report"

    def __post_init__(self) -> None:
        if self.warn_seconds >= self.fail_seconds:
            raise ValueError("`warn_seconds` must be less than `fail_seconds`: a job is warned of before it is failed")


class History(Struct, frozen=True, forbid_unknown_fields=True):
    retention_days: Annotated[
        int,
        about(
            "Days for which samples (charts are drawn from them) are kept after their receipt; 0 keeps them for ever.\n"
            "A job that runs all day leaves 17,000 a day, some 5 MB.",
            ge=0,
            le=36_500,
        ),
    ] = 30


class Service(Struct, frozen=True, forbid_unknown_fields=True):
    log_level: Annotated[Literal["debug", "info", "warning", "error"], about("How much is logged.")] = "info"
    stop_seconds: Annotated[
        float, about("On SIGTERM: seconds to answer what was accepted before it closes.", gt=0, le=600)
    ] = 10.0


class HubSettings(Struct, frozen=True, forbid_unknown_fields=True):
    listen: Listen = field(default_factory=Listen)
    access: Access = field(default_factory=Access)
    tls: Tls = field(default_factory=Tls)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    watchdog: Watchdog = field(default_factory=Watchdog)
    history: History = field(default_factory=History)
    service: Service = field(default_factory=Service)
