"""The command `sbc-daemon`: build, start, tell systemd, wait, stop."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

from sbc_daemon.app import Sidecar
from sbc_daemon.comeback import Comeback, sorted_out
from sbc_daemon.config import DEFAULT_PATH, PREFIX, Hub, SidecarSettings
from sbc_daemon.control import ControlServer
from sbc_daemon.descriptor_store import store_of
from sbc_daemon.hub_access import HubAccess
from sbc_daemon.hub_link import HttpHubLink
from sbc_daemon.hub_routes import HubRoutes
from sbc_daemon.listener import Listener, SocketInUse, listening_socket
from sbc_daemon.metrics_server import MetricsServer
from sbc_daemon.outbox import StateDirectoryHeld
from sbc_daemon.outbox_sqlite import SqliteOutbox
from sbc_daemon.processes import PidfdProcesses
from telemetry_common import __version__, daemon, logs, sockets
from telemetry_common.clock import SystemClock
from telemetry_common.lifecycle import Lifecycle, SystemdNotifier, watchdog_interval
from telemetry_common.reloading import Reloader

log = logging.getLogger(__name__)


async def _serve(config: SidecarSettings, read_settings: Callable[[], SidecarSettings]) -> None:
    log.info(logs.fields("starting", version=__version__, socket=config.socket.path, hub=" ".join(config.hub.urls)))
    access = HubAccess(config.hub)
    for warning in access.warnings():
        log.warning(warning)
    of_units, stored = sorted_out(sockets.descriptors())
    given = sockets.by_name(of_units)
    store = store_of(os.environ, config.service.descriptor_store, [one.name for one in stored])
    bound = listening_socket(config.socket.path, given)
    clock = SystemClock()
    lifecycle = Lifecycle(SystemdNotifier(), clock)
    outbox = SqliteOutbox(Path(config.outbox.directory), config.outbox.max_bytes, clock)
    hub = HubRoutes([_link(config.hub, url, access) for url in config.hub.urls])
    processes = PidfdProcesses()
    sidecar = await Sidecar.opened(config, clock, outbox, hub, processes, lifecycle, store)
    survivors = sidecar.survivors if sidecar.survivors.possible else None
    listener = Listener(bound, sidecar.converse, sidecar.intake, config.socket.max_connections, clock, survivors)
    sidecar.attachments.read_all = listener.read_all
    sidecar.connections = lambda: listener.connections
    Comeback(sidecar, listener, processes).take_up(stored)
    stop = daemon.stop_on_signal()
    reload = Reloader(lifecycle, sidecar.status, config, read_settings, _log_level, _parts(access, sidecar))
    try:
        async with _controlled(config, sidecar, given), sidecar.running(watchdog_interval()):
            listener.start()
            with daemon.on_hangup(reload):
                lifecycle.ready(sidecar.status())
                log.info(logs.fields("ready", status=sidecar.status()))
                await stop.wait()
            lifecycle.stopping("finishing what was accepted")
            log.info("stopping")
            await _finish(listener, sidecar, config.service.stop_seconds)
    finally:
        listener.close()
        await sidecar.close()
    log.info("stopped")


@asynccontextmanager
async def _controlled(
    config: SidecarSettings, sidecar: Sidecar, given: Mapping[str, Sequence[socket.socket]]
) -> AsyncIterator[None]:
    """Answer `sbcctl`, and who asks for figures, within the block. Raises SocketInUse."""
    control, metrics = ControlServer(sidecar.report, sidecar.dead_letters), MetricsServer(sidecar.scrape)
    try:
        with _in_use(config.socket.control):
            await control.start(Path(config.socket.control), next(iter(given.get("control", ())), None))
        with _in_use(config.metrics.listen):
            await metrics.start(config.metrics.listen, given.get("metrics", ()))
        yield
    finally:
        await metrics.close()
        await control.close()


@contextmanager
def _in_use(address: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SocketInUse(f"cannot listen on {address}: {error.strerror or error}") from None


def _link(hub: Hub, url: str, access: HubAccess) -> HttpHubLink:
    return HttpHubLink(url, hub.timeout_seconds, access, hub.proxy_for(url))


async def _finish(listener: Listener, sidecar: Sidecar, stop_seconds: float) -> None:
    """In the order of the data's way: no more lines, all of them on the disk and answered, then the hub."""
    try:
        async with asyncio.timeout(stop_seconds):
            await listener.stop()
            await sidecar.finish()
    except TimeoutError:
        log.error(logs.fields("stopping before everything was finished", stop_seconds=stop_seconds))


def _parts(access: HubAccess, sidecar: Sidecar) -> Mapping[str, Callable[[], str]]:
    """What SIGHUP reads again. The hub may let in then whom it did not before: nobody waits for the next attempt."""

    def and_ask_again(read_again: Callable[[], str]) -> str:
        found = read_again()
        sidecar.forwarder.ask_again()
        return found

    return {name: partial(and_ask_again, read_again) for name, read_again in access.reloadable.items()}


def _check(config: SidecarSettings) -> None:
    HubAccess(config.hub)


def _log_level(config: SidecarSettings) -> str:
    return config.service.log_level


PROGRAM = daemon.Program(
    name="sbc-daemon",
    description="The sidecar of backup telemetry: takes progress from the local socket, keeps it safe, and brings it "
    "to the hub.",
    settings=SidecarSettings,
    default_path=DEFAULT_PATH,
    prefix=PREFIX,
    log_level=_log_level,
    serve=_serve,
    check=_check,
    cannot_start=(SocketInUse, StateDirectoryHeld),
)


def main() -> None:
    daemon.main(PROGRAM)


if __name__ == "__main__":
    main()
