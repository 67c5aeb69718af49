"""What the sidecar takes and costs, each figure beside its reference; a few minutes on a quiet machine.

    python -m benchmarks.bench_sidecar

The hub of the rows about lines, start and memory is absent: nothing listens at its address, so every message ends in
the outbox, on the disk. The row from the first byte to the COMMIT has a real hub on a MariaDB that syncs every commit.
"""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.interpreter import import_aiohttp, interpreter_mib, seconds_of
from benchmarks.report import Finding, below, beside, tell
from benchmarks.stage import SERVER_DEFAULTS, database, resident_mib, run
from testbed.installation import hub_settings, hub_url, sidecar_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import Daemon, clean_environment, dying_with_us, free_port, installed

ROUNDS = 5
LINES = 1_000_000
CALLS = 300_000
IMAGE_BYTES = 16 << 30
FLOODED_SECONDS = 5
STATES = 300
"""Changes of state whose way to the COMMIT is timed."""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-") as name:
        directory = Path(name)
        parts = (lines, flooded, producer, backup, to_the_commit, start_and_memory)
        tell("sidecar", [finding for part in parts for finding in part(directory)])


def lines(directory: Path) -> Iterator[Finding]:
    """Over one socket, merged, cadence applied; the bare protocol splits and decodes them."""
    for kind in ("figures", "mixed"):
        say(f"lines over one socket: {kind}")
        with _sidecar(directory) as sidecar, _bare_protocol(directory) as bare:
            ours, theirs = _alternate(
                partial(_lines_per_second, _socket(sidecar), kind), partial(_lines_per_second, str(bare), kind)
            )
        what = f"lines over one socket, {kind}"
        yield beside(what, ours, "/s", "bare protocol", theirs, least=0.5)
        if kind == "figures":
            yield Finding(what=what, value=ours, unit="/s", reach="at least 300,000/s", reached=ours >= 300_000)


def _lines_per_second(path: str, kind: str) -> float:
    return float(run("benchmarks.flood", path, kind, str(LINES)))


def flooded(directory: Path) -> Iterator[Finding]:
    """How long a hundred producers wait for the confirmation of a change of state while one floods."""
    say("a hundred producers beside a flood")
    with _sidecar(directory) as sidecar:
        alone = _waits(sidecar)
        command = dying_with_us([sys.executable, "-m", "benchmarks.flood", _socket(sidecar), "mixed"])
        flood = subprocess.Popen(command, env=clean_environment())
        beside_flood = _waits(sidecar)
        flood.kill()
        flood.wait()
    value = beside_flood[1] - alone[1]
    yield Finding(
        what="delay of others' confirmed changes by a flood, p99",
        value=value,
        unit="ms",
        reference="alone, p99 ms",
        reference_value=alone[1],
        reach="at most 50 ms",
        reached=value <= 50,
    )


def _waits(sidecar: Daemon) -> tuple[float, float]:
    median, slow = run("benchmarks.bystanders", _socket(sidecar), "100", str(FLOODED_SECONDS)).split()
    return float(median), float(slow)


def producer(directory: Path) -> Iterator[Finding]:
    """One `progress()` call of the Python client, with a sidecar that works and one that stands still."""
    say("the cost of a progress() call")
    with _sidecar(directory) as sidecar:
        mean, slow = _cost(sidecar)
        os.kill(sidecar.pid or 0, signal.SIGSTOP)
        try:
            mean_full, slow_full = _cost(sidecar, "--until-full")
        finally:
            os.kill(sidecar.pid or 0, signal.SIGCONT)
    for which, each, slowest in (("", mean, slow), (", sidecar stopped, socket full", mean_full, slow_full)):
        yield Finding(what=f"progress(), mean{which}", value=each, unit="us", reach="under 2 us", reached=each < 2)
        what = f"progress(), 99.9th percentile{which}"
        yield Finding(what=what, value=slowest, unit="us", reach="under 1 ms", reached=slowest < 1000)


def _cost(sidecar: Daemon, *options: str) -> tuple[float, float]:
    mean, slow, _ = run("benchmarks.producer_cost", _socket(sidecar), str(CALLS), *options).split()
    return float(mean), float(slow)


def backup(directory: Path) -> Iterator[Finding]:
    """nbdcopy from a patterned disk of nbdkit into nothing, wrapped and alone."""
    say("nbdcopy alone and under sbc-report run")
    with _sidecar(directory) as sidecar:
        copy = ["nbdkit", "-U", "-", "pattern", str(IMAGE_BYTES), "--run", "exec nbdcopy $uri null:"]
        inner = f"exec {installed('sbc-report')} run --job bench-copy --socket {_socket(sidecar)} -- nbdcopy $uri null:"
        wrapped = [*copy[:-1], inner]
        ours, alone = _alternate(partial(_mib_per_second, wrapped), partial(_mib_per_second, copy), rounds=ROUNDS)
    yield beside("nbdcopy under sbc-report run", ours, "MiB/s", "nbdcopy alone", alone, least=0.99)


def _mib_per_second(command: list[str]) -> float:
    seconds = seconds_of(lambda: subprocess.run(command, check=True, env=clean_environment()))
    return IMAGE_BYTES / seconds / (1 << 20)


def to_the_commit(directory: Path) -> Iterator[Finding]:
    """From before a change of state is written to the socket until another connection to MariaDB sees it committed."""
    say("from the first byte to the COMMIT")
    with PrivateMariaDB(directory / "server", *SERVER_DEFAULTS) as server:
        settings = hub_settings(database(server, 1))
        with Daemon("sha-daemon", directory, settings), _sidecar(directory, hub_url(settings)) as sidecar:
            waits = list(_ways(_socket(sidecar), server, settings.database.name))
    slow = statistics.quantiles(waits, n=100)[-1]
    yield Finding(
        what="first byte to COMMIT, p99",
        value=slow,
        unit="ms",
        reference="median ms",
        reference_value=statistics.median(waits),
        reach="under 50 ms",
        reached=slow < 50,
    )


def _ways(path: str, server: PrivateMariaDB, name: str) -> Iterator[float]:
    """In ms. The row is looked at without a pause, so that a figure is too great by one look at most."""
    with socket.socket(socket.AF_UNIX) as producer, server.connect(name) as connection:
        producer.connect(path)
        cursor = connection.cursor()
        for number in range(STATES):
            phase = f"phase {number}"
            begun = time.perf_counter()
            producer.sendall(f'{{"job_id":"job-000000","current_phase":"{phase}"}}\n'.encode())
            seen: object = None
            while seen != (phase,):
                cursor.execute("SELECT current_phase FROM backup_jobs WHERE id = 'job-000000'")
                seen = cursor.fetchone()
            yield (time.perf_counter() - begun) * 1e3
            time.sleep(0.01)


def start_and_memory(directory: Path) -> Iterator[Finding]:
    """From the start of the process to READY=1, and what it keeps in memory."""
    say("start and memory")
    with _sidecar(directory) as sidecar:
        ready, imported = _alternate(lambda: seconds_of(sidecar.restart), lambda: seconds_of(import_aiohttp))
        yield below("start to READY", ready * 1e3, "ms", "import aiohttp", imported * 1e3, most=2)
        idle, interpreter = resident_mib(sidecar.pid or 0), interpreter_mib()
        yield below("memory, idle", idle, "MiB", "interpreter with aiohttp", interpreter, most=1.5)
        _thousand_jobs(_socket(sidecar))
        yield below(
            "memory, 1,000 jobs", resident_mib(sidecar.pid or 0), "MiB", "interpreter with aiohttp", interpreter, most=2
        )


def _thousand_jobs(path: str) -> None:
    disks = ",".join(f'{{"disk_index":{disk},"bytes_transferred":1,"total_bytes":9}}' for disk in (0, 1))
    said = f'"status":"running","current_phase":"transferring","disks":[{disks}],"ack":1'
    with socket.socket(socket.AF_UNIX) as producer:
        producer.connect(path)
        for number in range(1000):
            producer.sendall(f'{{"job_id":"job-{number}",{said}}}\n'.encode())
            producer.recv(4096)


@contextmanager
def _sidecar(directory: Path, url: str | None = None) -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(dir=directory) as own:
        settings = sidecar_settings(Path(own), url or f"http://127.0.0.1:{free_port()}")
        with Daemon("sbc-daemon", Path(own), settings) as sidecar:
            yield sidecar


def _socket(sidecar: Daemon) -> str:
    return str(sidecar.config_file.parent / "progress.sock")


@contextmanager
def _bare_protocol(directory: Path) -> Iterator[Path]:
    path = directory / "bare.sock"
    command = dying_with_us([sys.executable, "-m", "benchmarks.reference_protocol", str(path)])
    process = subprocess.Popen(command, env=clean_environment())
    try:
        while not path.is_socket() and process.poll() is None:
            time.sleep(0.02)
        yield path
    finally:
        process.terminate()
        process.wait()
        path.unlink()


def _alternate(ours: Callable[[], float], theirs: Callable[[], float], rounds: int = ROUNDS) -> tuple[float, float]:
    """The medians of both, taken in turns: what disturbs one disturbs the other."""
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def say(what: str) -> None:
    print(f"bench-sidecar: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
