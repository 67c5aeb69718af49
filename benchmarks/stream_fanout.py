"""How long after its COMMIT a change reaches the last of a thousand readers, and what a look at the tables costs.

    python -m benchmarks.stream_fanout [--readers 1000] [--jobs 10000] [--rounds 30]

The hub is a real process on a real MariaDB that syncs every commit; readers and sender are this process.
"""

import argparse
import asyncio
import http.client
import json
import select
import socket
import statistics
import tempfile
import time
from pathlib import Path

from msgspec import structs

from benchmarks import stage
from benchmarks.load import job_name
from benchmarks.report import Finding, tell
from sha_daemon.config import DatabaseSettings, HubSettings
from sha_daemon.fingerprint import Question
from sha_daemon.mariadb import MariaDB
from sha_daemon.stream_look import LIMIT, SHARE
from testbed.installation import hub_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import Daemon

JOB = job_name(7)
"""The one that changes, and that the thousand follow: with all jobs, the first ones alone would be gigabytes."""
REQUEST = b"GET /api/v1/telemetry/stream%b HTTP/1.1\r\nHost: localhost\r\n\r\n"
REACH_CHANGE_MS = 100
REACH_LOOK_MS = 50


class Readers:
    """Connections that follow the stream; what they are told is searched for one word, and forgotten."""

    def __init__(self, address: tuple[str, int], count: int, query: bytes = b"") -> None:
        self._poll = select.epoll()
        self._rest: dict[int, bytes] = {}
        self._sockets = {sock.fileno(): sock for sock in (socket.create_connection(address) for _ in range(count))}
        for number, sock in self._sockets.items():
            sock.sendall(REQUEST % query)
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


def delays(address: tuple[str, int], readers: Readers, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds until the last reader was told: from the sender's request, and from its 204."""
    sender = http.client.HTTPConnection(*address)
    from_request, from_answer = [], []
    for number in range(1, rounds + 1):
        moved = 10**12 + number
        body = json.dumps({"status": "running", "bytes_transferred": moved})
        asked = time.monotonic()
        sender.request("POST", f"/api/v1/telemetry/backup/{JOB}", body, {"Content-Type": "application/json"})
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
    question = Question(limit=LIMIT, made_within_seconds=6, shares=shares)
    took = []
    for _ in range(rounds):
        began = time.monotonic()
        await database.run(lambda session: session.fingerprints(question))
        took.append(time.monotonic() - began)
    await database.close()
    return took


def milliseconds(what: str, seconds: float, reach: int | None = None) -> Finding:
    asked = None if reach is None else f"under {reach} ms"
    reached = None if reach is None else seconds * 1000 < reach
    return Finding(what=what, value=seconds * 1000, unit="ms", reach=asked, reached=reached)


def measured(settings: HubSettings, readers: int, jobs: int, rounds: int, directory: Path) -> list[Finding]:
    host, port = settings.listen.address.split(":")
    address = (host, int(port))
    with Daemon("sha-daemon", directory, settings):
        began = time.monotonic()
        first = Readers(address, 1)
        given = first.wait_for(b"event: ready") - began
        first.close()
        following = Readers(address, readers, f"?job_id={JOB}".encode())
        following.wait_for(b"event: ready")
        from_request, from_answer = delays(address, following, rounds)
        following.close()
    took = asyncio.run(looks(settings.database, rounds, -(-jobs // SHARE)))
    return [
        milliseconds(f"change to the last of {readers} readers, from the 204", statistics.median(from_answer)),
        milliseconds(f"the worst of {rounds}", max(from_answer), REACH_CHANGE_MS),
        milliseconds("the worst from the sender's request, COMMIT included", max(from_request)),
        milliseconds(f"look at {jobs} running jobs", statistics.median(took), REACH_LOOK_MS),
        milliseconds(f"the first reader is given {jobs} running jobs", given),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=1000, help="who follow one job (%(default)s)")
    parser.add_argument("--jobs", type=int, default=10_000, help="that run, with two disks each (%(default)s)")
    parser.add_argument("--rounds", type=int, default=30, help="changes and looks measured (%(default)s)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        PrivateMariaDB(Path(name), *stage.SERVER_DEFAULTS) as server,
    ):
        settings = hub_settings(stage.database(server, options.jobs))
        with server.connect(settings.database.name) as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE backup_jobs SET created_at = '2025-10-10'")
        listen = structs.replace(settings.listen, max_streams=options.readers + 1)
        found = measured(
            structs.replace(settings, listen=listen), options.readers, options.jobs, options.rounds, Path(name)
        )
    tell("stream_fanout", found)


if __name__ == "__main__":
    main()
