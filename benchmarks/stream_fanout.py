"""How long after its COMMIT a change reaches the last of a thousand readers, and what a look at the tables costs.

    python -m benchmarks.stream_fanout [--readers 1000] [--jobs 10000] [--rounds 30]

The hub is a real process on a real MariaDB that syncs every commit; readers and sender are this process.
"""

import argparse
import asyncio
import http.client
import json
import os
import select
import socket
import statistics
import tempfile
import time
from pathlib import Path

from sha_daemon import migrations
from sha_daemon.config import DatabaseSettings
from sha_daemon.fingerprint import Question
from sha_daemon.mariadb import MariaDB, connect
from sha_daemon.stream_look import SHARE
from testbed.installation import hub_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import Daemon

FEW = 100
"""Running jobs while the readers follow all of them."""
REQUEST = b"GET /api/v1/telemetry/stream HTTP/1.1\r\nHost: hub\r\n\r\n"


class Readers:
    """Connections that follow the stream; what they are told is searched for one word, and forgotten."""

    def __init__(self, address: tuple[str, int], count: int) -> None:
        self._poll = select.epoll()
        self._rest: dict[int, bytes] = {}
        self._sockets = {sock.fileno(): sock for sock in (socket.create_connection(address) for _ in range(count))}
        for number, sock in self._sockets.items():
            sock.sendall(REQUEST)
            self._poll.register(number, select.EPOLLIN)

    def wait_for(self, word: bytes, seconds: float = 60.0) -> float:
        """Monotonic time at which the last of them was told it."""
        waiting = set(self._sockets)
        deadline = time.monotonic() + seconds
        while waiting:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(waiting)} of {len(self._sockets)} readers were not told {word!r}")
            for number, _ in self._poll.poll(1.0):
                if self._hears(number, word):
                    waiting.discard(number)
        return time.monotonic()

    def _hears(self, number: int, word: bytes) -> bool:
        piece = self._sockets[number].recv(1 << 18)
        if not piece:
            raise ConnectionError("the hub has dropped a reader")
        text = self._rest.get(number, b"") + piece
        self._rest[number] = text[-len(word) :]
        return word in text

    def close(self) -> None:
        self._poll.close()
        for sock in self._sockets.values():
            sock.close()


def migrate(settings: DatabaseSettings) -> None:
    link = connect(settings, daemon=False)
    migrations.apply(link, settings.name, migrations.known())
    link.close()


def add_jobs(settings: DatabaseSettings, first: int, last: int) -> None:
    """Running, with two disks each."""
    link = connect(settings, daemon=False)
    link.execute(f"USE `{settings.name}`")
    link.execute(
        "INSERT INTO backup_jobs (id, vm_name, backup_type, status, telemetry_seq, telemetry_heard_us,"
        " last_telemetry_at, created_at)"
        " SELECT CONCAT('backup-web-', seq, '-1728518400'), 'web', 'full', 'running', seq, 0, NOW(), '2025-10-10'"
        f" FROM seq_{first}_to_{last}"
    )
    for disk in (0, 1):
        link.execute(
            "INSERT INTO backup_disks (backup_job_id, disk_index)"
            f" SELECT CONCAT('backup-web-', seq, '-1728518400'), {disk} FROM seq_{first}_to_{last}"
        )
    link.close()


def delays(address: tuple[str, int], readers: Readers, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds until the last reader was told: from the sender's request, and from its 204."""
    sender = http.client.HTTPConnection(*address)
    from_request, from_answer = [], []
    for number in range(1, rounds + 1):
        moved = 10**12 + number
        body = json.dumps({"status": "running", "bytes_transferred": moved})
        asked = time.monotonic()
        path = "/api/v1/telemetry/backup/backup-web-7-1728518400"
        sender.request("POST", path, body, {"Content-Type": "application/json"})
        answer = sender.getresponse()
        answer.read()
        answered = time.monotonic()
        if answer.status != 204:
            raise RuntimeError(f"the hub answered {answer.status}")
        told = readers.wait_for(b'"bytes_transferred":%d' % moved)
        from_request.append(told - asked)
        from_answer.append(told - answered)
        time.sleep(0.1)
    sender.close()
    return from_request, from_answer


async def looks(settings: DatabaseSettings, rounds: int, shares: int) -> list[float]:
    database = MariaDB(settings)
    question = Question(limit=20_000, made_within_seconds=6, shares=shares)
    took = []
    for _ in range(rounds):
        began = time.monotonic()
        await database.run(lambda session: session.fingerprints(question))
        took.append(time.monotonic() - began)
    await database.close()
    return took


Row = dict[str, object]


def row(what: str, seconds: float, reach: float | None = None) -> Row:
    reached = None if reach is None else seconds * 1000 <= reach
    found = {"what": what, "value": round(seconds * 1000, 1), "unit": "ms", "reach": reach, "reached": reached}
    return found | {"reference": None, "reference_value": None, "ratio": None}


def measured(settings: DatabaseSettings, readers: int, jobs: int, rounds: int, directory: Path) -> list[Row]:
    migrate(settings)
    add_jobs(settings, 1, FEW)
    configured = hub_settings(settings)
    host, port = configured.listen.address.split(":")
    with Daemon("sha-daemon", directory, configured):
        following = Readers((host, int(port)), readers)
        following.wait_for(b"event: ready")
        from_request, from_answer = delays((host, int(port)), following, rounds)
        following.close()
        time.sleep(2)
        add_jobs(settings, FEW + 1, jobs)
        took = asyncio.run(looks(settings, rounds, -(-jobs // SHARE)))
    with Daemon("sha-daemon", directory, configured):
        began = time.monotonic()
        alone = Readers((host, int(port)), 1)
        given = alone.wait_for(b"event: ready") - began
        alone.close()
    return [
        row(f"change to the last of {readers} readers, from the 204: median", statistics.median(from_answer)),
        row(f"change to the last of {readers} readers, from the 204: worst of {rounds}", max(from_answer), 100),
        row("the same from the sender's request, COMMIT included: worst", max(from_request)),
        row(f"look at {jobs} running jobs: median", statistics.median(took), 50),
        row(f"the first reader is given {jobs} running jobs, from its request", given),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=1000, help="who follow all jobs (%(default)s)")
    parser.add_argument("--jobs", type=int, default=10_000, help="that are looked at (%(default)s)")
    parser.add_argument("--rounds", type=int, default=30, help="changes and looks measured (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name, PrivateMariaDB(Path(name)) as server:
        database = server.new_database("bench")
        settings = DatabaseSettings(name=database, user=server.user, socket=str(server.socket))
        rows = measured(settings, options.readers, options.jobs, options.rounds, Path(name))
    print(f"{os.cpu_count()} cores")
    for found in rows:
        reach = "" if found["reach"] is None else f"  (reach {found['reach']}: {'yes' if found['reached'] else 'NO'})"
        print(f"{found['value']:>10} ms  {found['what']}{reach}")
    target = Path("build/bench/stream_fanout.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
