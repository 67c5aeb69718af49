"""`make bench-hub`: what the hub takes and what it costs, each figure beside its reference.

python -m benchmarks.bench_hub [--quick]
"""

import functools
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.interpreter import import_aiohttp, interpreter_mib, seconds_of
from benchmarks.load import WARM_UP_SECONDS, Result
from benchmarks.report import Finding, below, beside, tell
from benchmarks.stage import SERVER_DEFAULTS, cpu_seconds, database, load, resident_mib, run, serving
from sha_daemon.config import DatabaseSettings
from testbed.installation import hub_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import Daemon

JOBS = 2000
BATCH = 250
LATENCY_JOBS = 5000
LATENCY_RATE = 1000
GROWTH_RATE = 2000
GROWTH = (100, 1_000, 10_000, 100_000)


class Stage:
    """The server, and how long and how often is measured."""

    def __init__(self, server: PrivateMariaDB, directory: Path, *, quick: bool) -> None:
        self.server = server
        self.directory = directory
        self.rounds = 1 if quick else 5
        self.seconds = 1.0 if quick else 3.0

    @contextmanager
    def hub(self, settings: DatabaseSettings) -> Iterator[tuple[Daemon, int]]:
        """A hub in service, and its port."""
        config = hub_settings(settings)
        with Daemon("sha-daemon", self.directory, config) as hub:
            yield hub, int(config.listen.address.rpartition(":")[2])

    def alternate(self, *measures: Callable[[], float]) -> list[float]:
        """Each in turn, several times; the median of each."""
        found = [[measure() for measure in measures] for _ in range(self.rounds)]
        return [statistics.median(figures) for figures in zip(*found, strict=True)]

    def rate(self, port: int, connections: int) -> float:
        return load(port, connections=connections, jobs=JOBS, seconds=self.seconds).updates_per_second


def singles(stage: Stage) -> Iterator[Finding]:
    """Single updates, committed each before its answer."""
    settings = database(stage.server, JOBS)
    where = (settings.socket, settings.user, settings.name)
    with (
        stage.hub(settings) as (_, hub),
        serving("benchmarks.reference_empty") as empty,
        serving("benchmarks.reference_per_row", *where) as per_row,
    ):
        for connections, least in ((64, 0.4), (256, 0.5)):
            say(f"single updates over {connections} connections")
            ours, nothing, rows = stage.alternate(
                *(functools.partial(stage.rate, port, connections) for port in (hub, empty, per_row))
            )
            what = f"single updates, {connections} connections"
            yield beside(what, ours, "/s", "empty handler", nothing, least=least)
            yield beside(what, ours, "/s", "a transaction per row", rows, least=4)


def batches(stage: Stage) -> Iterator[Finding]:
    """Updates through the batch endpoint."""
    say("updates through the batch endpoint")
    settings = database(stage.server, JOBS)
    loop = ("benchmarks.reference_statements", settings.socket, settings.user, settings.name, str(JOBS))

    def through_http(port: int) -> float:
        return load(port, connections=4, jobs=JOBS, seconds=stage.seconds, batch=BATCH).updates_per_second

    with stage.hub(settings) as (_, port):
        ours, statements = stage.alternate(
            lambda: through_http(port), lambda: float(run(*loop, str(2 * BATCH), str(stage.seconds)))
        )
    yield beside("updates in batches", ours, "/s", "its statements in a loop", statements, least=0.8)
    yield Finding(what="updates in batches", value=ours, unit="/s", reach="at least 8,000/s", reached=ours >= 8000)


def latency(stage: Stage) -> Iterator[Finding]:
    """From when an update was due to its answer, at a steady thousand a second."""
    say(f"latency at {LATENCY_RATE:,} updates a second")
    with stage.hub(database(stage.server, LATENCY_JOBS)) as (_, port):
        runs: list[Result] = [
            load(port, connections=500, jobs=LATENCY_JOBS, seconds=2 * stage.seconds, rate=LATENCY_RATE)
            for _ in range(stage.rounds)
        ]
    for name, most in (("p50", 10), ("p99", 25)):
        value = statistics.median(getattr(result, f"{name}_ms") for result in runs)
        what = f"latency at {LATENCY_RATE:,}/s, {name}"
        yield Finding(what=what, value=value, unit="ms", reach=f"under {most} ms", reached=value < most)


def growth(stage: Stage) -> Iterator[Finding]:
    """The hub's processor time for an update, by the number of running jobs."""
    costs: dict[int, list[float]] = {jobs: [] for jobs in GROWTH}
    for jobs in GROWTH:
        say(f"processor time per update with {jobs:,} jobs")
        with stage.hub(database(stage.server, jobs)) as (hub, port):
            for _ in range(stage.rounds):
                costs[jobs].append(cost_of_update(stage, hub.pid or 0, port, jobs))
    few, *more = [(jobs, statistics.median(costs[jobs])) for jobs in GROWTH]
    for jobs, cost in more:
        yield below(f"hub CPU per update, {jobs:,} jobs", cost, "us", f"with {few[0]} jobs", few[1], most=1.25)


def cost_of_update(stage: Stage, pid: int, port: int, jobs: int) -> float:
    """Microseconds of the hub's processor time, at a rate that leaves it room."""
    before = cpu_seconds(pid)
    load(port, connections=50, jobs=jobs, seconds=stage.seconds, rate=GROWTH_RATE)
    return (cpu_seconds(pid) - before) / (GROWTH_RATE * (stage.seconds + WARM_UP_SECONDS)) * 1e6


def start_and_memory(stage: Stage) -> Iterator[Finding]:
    """From the start of the process to READY=1, and what it keeps in memory."""
    say("start and memory")
    settings = database(stage.server, 1000)
    hub = Daemon("sha-daemon", stage.directory, hub_settings(settings))
    try:
        ready, imported = stage.alternate(lambda: seconds_of(hub.restart), lambda: seconds_of(import_aiohttp))
        yield below("start to READY", ready * 1e3, "ms", "import aiohttp", imported * 1e3, most=2)
        idle, interpreter = resident_mib(hub.pid or 0), interpreter_mib()
        yield below("memory, idle", idle, "MiB", "interpreter with aiohttp", interpreter, most=1.5)
        port = int(hub_port(hub))
        load(port, connections=100, jobs=1000, seconds=2 * stage.seconds, rate=1000)
        busy = resident_mib(hub.pid or 0)
        yield below("memory, 1,000 jobs", busy, "MiB", "interpreter with aiohttp", interpreter, most=2)
    finally:
        hub.close()


def hub_port(hub: Daemon) -> str:
    line = next(line for line in hub.config_file.read_text().splitlines() if line.startswith("address"))
    return line.rpartition(":")[2].strip('"')


def say(what: str) -> None:
    print(f"bench-hub: {what}", file=sys.stderr, flush=True)


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    findings: list[Finding] = []
    with (
        tempfile.TemporaryDirectory(prefix="telemetry-bench-") as place,
        PrivateMariaDB(Path(place), *SERVER_DEFAULTS) as server,
    ):
        stage = Stage(server, Path(place), quick=quick)
        for part in (singles, batches, latency, growth, start_and_memory):
            findings += part(stage)
    tell("hub", findings)


if __name__ == "__main__":
    main()
