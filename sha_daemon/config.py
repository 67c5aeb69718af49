"""Every setting of the hub: type, default, unit and reason. docs and the shipped config.toml come from here."""

from typing import Annotated, Literal

from msgspec import Struct, field

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
        int, about("Senders and readers connected at once; a further one gets 503.", ge=1, le=100_000)
    ] = 4000
    max_queue: Annotated[
        int, about("Updates waiting for the database; beyond it senders get 503 and try again.", ge=1, le=1_000_000)
    ] = 10_000

    def __post_init__(self) -> None:
        host_and_port(self.address)


def host_and_port(address: str) -> tuple[str, int]:
    """`127.0.0.1:8082` or `[::1]:8082` in its two parts. Raises ValueError, fit for the operator."""
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"`address` must be HOST:PORT, such as 127.0.0.1:8082, not {address!r}")
    return host.strip("[]"), int(port)


class DatabaseSettings(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[
        str, about("The database shared with the appliance's GUI and engine.", min_length=1, max_length=64)
    ] = "migratekit_oma"
    user: Annotated[
        str, about("Database user. Over the local socket MariaDB knows it by the system user; there is no password.")
    ] = "sha"
    socket: Annotated[str, about("MariaDB's Unix socket.", min_length=1)] = "/run/mysqld/mysqld.sock"
    timeout_seconds: Annotated[
        float, about("A statement or connection slower than this counts as a lost connection.", gt=0, le=600)
    ] = 20.0


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
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    watchdog: Watchdog = field(default_factory=Watchdog)
    history: History = field(default_factory=History)
    service: Service = field(default_factory=Service)
