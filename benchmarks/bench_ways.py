"""`make bench-ways`: other ways to store a batch of updates, and other builds of the hub, side by side.

What the hub does was chosen by these tables; docs/performance.md tells the choice.
"""

import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import structs

from benchmarks.load import job_name
from benchmarks.report import Finding, tell
from benchmarks.stage import SERVER_DEFAULTS, database, load
from sha_daemon.config import DatabaseSettings
from sha_daemon.job_types import BACKUP
from sha_daemon.mariadb import Link, connect
from sha_daemon.records import Job
from sha_daemon.rows import Rows, datetime, parameters
from sha_daemon.statements import JOB, Statements, session
from testbed.installation import hub_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import Daemon

JOBS = 2000
ROUNDS = 2
SECONDS = 0.7
SQL = Statements(BACKUP)
ROWS = Rows(BACKUP)
COLLATION = "utf8mb4_unicode_ci"
_COLUMNS = (
    *("status", "bytes_transferred", "total_bytes", "transfer_speed_bps", "eta_seconds", "progress_percent"),
    *("last_telemetry_at", "telemetry_seq", "telemetry_heard_us"),
)


def say(what: str) -> None:
    print(f"bench-ways: {what}", file=sys.stderr, flush=True)


class Bench:
    """A batch of updated jobs after the other, on one connection; each way writes it, and commits."""

    def __init__(self, settings: DatabaseSettings, each: int) -> None:
        self.link = connect(settings, daemon=True)
        for statement in session(20):
            self.link.execute(statement)
        self.each = each
        self._turn = 0

    def batch(self) -> list[Job]:
        """The next jobs, with figures that they did not have before."""
        self._turn += 1
        first = self._turn * self.each
        return [
            Job(
                job_id=job_name((first + n) % JOBS),
                status="running",
                current_phase="transferring",
                bytes_transferred=first + n,
                total_bytes=109521739776,
                last_telemetry_at=1.7e9 + self._turn,
                seq=first + n + 1,
                heard_us=first,
            )
            for n in range(self.each)
        ]

    def ids(self) -> list[str]:
        return [job.job_id for job in self.batch()]

    def microseconds(self, way: Callable[["Bench"], None]) -> float:
        """For one update."""
        begun, done = time.perf_counter(), 0
        while time.perf_counter() - begun < SECONDS:
            way(self)
            self.link.commit()
            done += self.each
        return (time.perf_counter() - begun) / done * 1e6


def _write(link: Link, statement: str, rows: Sequence[list[object]]) -> None:
    for parameter in parameters(rows, packet_bytes=16 << 20):
        link.execute(statement, parameter)


def joined_json(bench: Bench) -> None:
    """The hub's own."""
    _write(bench.link, SQL.write_jobs(COLLATION), [ROWS.of_job(job) for job in bench.batch()])


def joined_json_with_texts(bench: Bench) -> None:
    jobs = bench.batch()
    joined = SQL.write_jobs(COLLATION)
    text = joined.replace("PATH '$[13]'", "PATH '$[13]', error TEXT PATH '$[14]'")
    text = text.replace("j.watchdog_failed_at = u.failed", "j.watchdog_failed_at = u.failed, j.error_message = u.error")
    _write(bench.link, text, [[*ROWS.of_job(job), job.error_message] for job in jobs])


def upsert(bench: Bench) -> None:
    """Works only on tables whose other columns all have defaults; the appliance's have not."""
    row = f"(%s, 'vm', 'full', {', '.join(['%s'] * len(_COLUMNS))})"
    jobs = bench.batch()
    changes = ", ".join(f"{column} = VALUES({column})" for column in _COLUMNS)
    bench.link.execute(
        f"INSERT INTO backup_jobs (id, vm_name, backup_type, {', '.join(_COLUMNS)})"
        f" VALUES {', '.join([row] * len(jobs))} ON DUPLICATE KEY UPDATE {changes}",
        *(value for job in jobs for value in (job.job_id, *_values(job))),
    )


def one_by_one(bench: Bench) -> None:
    for job in bench.batch():
        bench.link.execute(_single(), *_values(job), job.job_id)


def one_by_one_in_a_block(bench: Bench) -> None:
    jobs = bench.batch()
    block = f"BEGIN NOT ATOMIC {' ; '.join([_single()] * len(jobs))} ; END"
    bench.link.execute(block, *(value for job in jobs for value in (*_values(job), job.job_id)))


def _single() -> str:
    return f"UPDATE backup_jobs SET {', '.join(f'{column} = %s' for column in _COLUMNS)} WHERE id = %s"


def _values(job: Job) -> list[object]:
    figures = [job.bytes_transferred, job.total_bytes, job.transfer_speed_bps, job.eta_seconds, job.progress_percent]
    return [job.status, *figures, datetime(job.last_telemetry_at), job.seq, job.heard_us]


def locked_as_json(bench: Bench) -> None:
    """The hub's own: jobs and disks in one answer, a text a row."""
    statement = SQL.lock_jobs(bench.each, "uk_job_disk", COLLATION)
    ROWS.locked(text for text, _ in bench.link.rows(statement, *bench.ids()))


def locked_as_columns(bench: Bench) -> None:
    ids = bench.ids()
    marks = ", ".join(["%s"] * len(ids))
    rows = bench.link.rows(f"SELECT {JOB} FROM backup_jobs j WHERE j.id IN ({marks}) ORDER BY j.id FOR UPDATE", *ids)
    found = bench.link.rows(f"SELECT {SQL.disk} FROM backup_disks d WHERE backup_job_id IN ({marks}) FOR UPDATE", *ids)
    by_job = ROWS.by_job(found)
    for job in map(ROWS.job, rows):
        structs.replace(job, disks=by_job.get(job.job_id, ()))


WRITES = {
    "UPDATE joined to JSON_TABLE (the hub's)": joined_json,
    "the same with a TEXT column": joined_json_with_texts,
    "INSERT ... ON DUPLICATE KEY UPDATE": upsert,
    "an UPDATE each, one block": one_by_one_in_a_block,
    "an UPDATE each": one_by_one,
}
READS = {"JSON text, jobs with disks (the hub's)": locked_as_json, "columns, jobs then disks": locked_as_columns}


def statements(settings: DatabaseSettings) -> Iterator[Finding]:
    for each in (32, 250):
        for what, ways in (("write", WRITES), ("lock", READS)):
            say(f"{what} {each} jobs in a transaction")
            bench = Bench(settings, each)
            found = [[bench.microseconds(way) for way in ways.values()] for _ in range(ROUNDS)]
            for name, figures in zip(ways, zip(*found, strict=True), strict=True):
                label = f"{what} {each}: {name}"
                yield Finding(what=label, value=statistics.median(figures), unit="us an update")
            bench.link.close()


class Variant(Daemon):
    """A hub with so many writers, on this event loop."""

    writers = 2
    loop = "asyncio"

    def _command(self, descriptors: Sequence[int]) -> list[str]:
        module = [sys.executable, "-m", "benchmarks.hub_variant", str(self.writers), self.loop]
        return [*module, "--config", str(self.config_file)]


def builds(settings: DatabaseSettings, place: Path) -> Iterator[Finding]:
    loops = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]
    variants = [(writers, loop) for loop in loops for writers in (1, 2, 3)]
    found: dict[tuple[int, str, int], list[float]] = {}
    for turn in range(ROUNDS):
        say(f"builds of the hub, round {turn + 1} of {ROUNDS}")
        for writers, loop in variants:
            config = hub_settings(settings)
            hub = Variant("sha-daemon", place, config)
            hub.writers, hub.loop = writers, loop
            with hub:
                for connections in (64, 256):
                    port = int(config.listen.address.rpartition(":")[2])
                    result = load(port, connections=connections, jobs=JOBS, seconds=3.0)
                    found.setdefault((writers, loop, connections), []).append(result.updates_per_second)
    for (writers, loop, connections), rates in sorted(found.items()):
        what = f"hub, {writers} writer{'s' if writers > 1 else ''}, {loop}, {connections} connections"
        yield Finding(what=what, value=statistics.median(rates), unit="updates/s")


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="telemetry-bench-") as place,
        PrivateMariaDB(Path(place), *SERVER_DEFAULTS) as server,
    ):
        settings = database(server, JOBS)
        tell("ways", [*statements(settings), *builds(settings, Path(place))])


if __name__ == "__main__":
    main()
