"""What the hub's benchmarks run on: a private MariaDB that syncs every commit, its jobs, and servers as processes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from benchmarks.load import Result
from sha_daemon import migrations
from sha_daemon.config import DatabaseSettings
from sha_daemon.mariadb import connect
from testbed.mariadb import PrivateMariaDB
from testbed.processes import clean_environment, dying_with_us, free_port

SERVER_DEFAULTS = ("--innodb-buffer-pool-size=128M", "--innodb-log-file-size=96M")
"""As MariaDB starts where nobody has tuned it; the small sizes of the test server would measure its checkpoints."""
_TICKS = os.sysconf("SC_CLK_TCK")


def database(server: PrivateMariaDB, jobs: int, name: str = "bench") -> DatabaseSettings:
    """A migrated database of its own, with so many running jobs of two disks."""
    settings = DatabaseSettings(name=name, user=server.user, socket=str(server.socket))
    server.new_database(settings.name)
    link = connect(settings, daemon=False, patient=True)
    migrations.apply(link, settings.name, migrations.known())
    link.close()
    with server.connect(settings.name) as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO backup_jobs (id, vm_name, backup_type, status)"
            f" SELECT CONCAT('job-', LPAD(seq, 6, '0')), 'vm', 'full', 'running' FROM seq_0_to_{jobs - 1}"
        )  # the ids are those of load.job_name
        for disk in (0, 1):
            cursor.execute(f"INSERT INTO backup_disks (backup_job_id, disk_index) SELECT id, {disk} FROM backup_jobs")
    return settings


def cpu_seconds(pid: int) -> float:
    """What the process has used of the processor, in user and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mib(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def load(port: int, **options: float) -> Result:
    """One run of `benchmarks.load` in a process of its own. SystemExit where an update was refused."""
    arguments = [f"--{name}={value}" for name, value in options.items()]
    result = msgspec.json.decode(run("benchmarks.load", str(port), *arguments), type=Result)
    if result.refused:
        sys.exit(f"{result.refused} updates were refused; the figures of this run mean nothing")
    return result


def run(module: str, *arguments: str) -> bytes:
    """A program of this package to its end; what it printed."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, env=clean_environment()).stdout


@contextmanager
def serving(module: str, *arguments: str) -> Iterator[int]:
    """A server of this package on a port of its own, while the block runs; the port."""
    port = free_port()
    command = dying_with_us([sys.executable, "-m", module, str(port), *arguments])
    process = subprocess.Popen(command, env=clean_environment())
    try:
        _wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
