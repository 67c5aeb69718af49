"""The command `sha-daemon`: build, start, tell systemd, wait, stop."""

import gc
import logging
import time
from collections.abc import Callable, Iterable, Iterator

from msgspec import structs

from sha_daemon import descriptors, unit_network
from sha_daemon.app import Hub
from sha_daemon.config import DEFAULT_PATH, PREFIX, HubSettings, streams_at_once
from sha_daemon.edge import Edge
from sha_daemon.http_api import application
from sha_daemon.mariadb import MariaDB
from sha_daemon.mariadb_access import MariaAccess
from sha_daemon.serving import listening_socket, served
from telemetry_common import __version__, daemon, logs, sockets
from telemetry_common.clock import SystemClock
from telemetry_common.lifecycle import Lifecycle, SystemdNotifier, watchdog_interval
from telemetry_common.reloading import Reloader

log = logging.getLogger(__name__)


GARBAGE_THRESHOLD = 20_000
"""New objects before a search for garbage. A batch of updates makes thousands, and hardly any in cycles."""


async def _serve(config: HubSettings, read_settings: Callable[[], HubSettings]) -> None:
    gc.set_threshold(GARBAGE_THRESHOLD)
    edge = Edge(config)
    access = MariaAccess(config.database)
    sock = listening_socket(config.listen.address, sockets.inherited())
    clock = SystemClock()
    lifecycle = Lifecycle(SystemdNotifier(), clock)
    fitted = _fitted(config)
    hub = Hub(fitted, clock, lambda kind, _: MariaDB(config.database, kind, access), lifecycle)
    stop = daemon.stop_on_signal()
    stop_seconds = config.service.stop_seconds
    log.info(logs.fields("starting", version=__version__, listen=config.listen.address, database=config.database.name))
    for warning in _advice(config, edge, fitted):
        log.warning(warning)
    reload = Reloader(
        lifecycle, hub.status, config, read_settings, _log_level, {**edge.reloadable, **access.reloadable}
    )
    try:
        async with hub.running(watchdog_interval()):
            app = application(hub, edge.gate)
            async with served(
                app,
                sock,
                fitted.listen,
                certificate=edge.certificate,
                on_turned_away=hub.turned_away,
                stop_seconds=stop_seconds / 2,
            ) as hub.door.connections:
                hub.accepting(True)
                with daemon.on_hangup(reload):
                    lifecycle.ready(hub.status())
                    log.info(logs.fields("ready", status=hub.status()))
                    await stop.wait()
                lifecycle.stopping("answering what was accepted")
                log.info("stopping")
                hub.accepting(False)
            await hub.finish(stop_seconds / 2)
    finally:
        await hub.close()
    log.info("stopped")


def _fitted(config: HubSettings) -> HubSettings:
    listen = config.listen
    return structs.replace(config, listen=descriptors.fitting(listen, descriptors.limit_for(listen.max_connections)))


def _advice(config: HubSettings, edge: Edge, fitted: HubSettings) -> Iterator[str]:
    """What an operator should know of settings that can be used."""
    yield from edge.warnings()
    if short := descriptors.shortage(config.listen, fitted.listen):
        yield short
    if fitted.listen.max_streams > (most := streams_at_once(fitted.listen)):
        yield logs.fields("listen.max_streams is more than half of the connections", taken=most)


def _check(config: HubSettings) -> Iterable[str]:
    edge = Edge(config)
    edge.must_be_valid_now()
    MariaAccess(config.database)
    soon = edge.certificate.validity.warning(time.time()) if edge.certificate else ""
    ending = [f"{config.tls.certificate}: {soon}"] if soon else []
    unreachable = [unit_network.LACKING] if config.database.hosts and unit_network.is_lacking() else []
    return [*_advice(config, edge, _fitted(config)), *ending, *unreachable]


def _log_level(config: HubSettings) -> str:
    return config.service.log_level


PROGRAM = daemon.Program(
    name="sha-daemon",
    description="The hub of backup telemetry: receives updates over HTTP, commits them to MariaDB, and fails jobs that "
    "have gone silent.",
    settings=HubSettings,
    default_path=DEFAULT_PATH,
    prefix=PREFIX,
    log_level=_log_level,
    serve=_serve,
    check=_check,
)


def main() -> None:
    daemon.main(PROGRAM)


if __name__ == "__main__":
    main()
