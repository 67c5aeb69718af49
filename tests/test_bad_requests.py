"""Requests that no sender would send, over real sockets to a real hub on a real MariaDB: none is a fault of the hub.

The database refuses every illegal change of a row, so that it would be a 500.
"""

import asyncio
import gzip
import random
import zlib
from collections import Counter
from collections.abc import Sequence
from urllib.parse import quote

import msgspec
import pytest

from sha_daemon.config import DatabaseSettings
from telemetry_common.contract import MAX_BODY_BYTES
from tests.support.databases import OnMariaDB, running
from tests.support.found import keep, originals
from tests.support.legal import TRIGGERS
from tests.support.memory import resident_bytes
from tests.support.mutations import Mutator, garbled
from tests.support.raw_http import Answer, RawClient, raw_clients, throw
from tests.support.stage import RealHub, hub

__all__ = ["hub"]
pytestmark = pytest.mark.integration

PATH, BATCH = "/api/v1/telemetry/backup", "/api/v1/telemetry/batch"
ROUNDS, JOBS, PER_JOB, CLIENTS = 12, 50, 40, 10
"""In each round so many jobs are reported on, each so many times."""
TYPES = ("text/plain", "application/jsonp", "application/json; charset=utf-16", "", "application/json,text/plain")
ENCODINGS = ("gzip", "gzip", "deflate", "br", "gzip, gzip", "identity")
MAX_GROWTH_BYTES = 8 << 20
"""Of the hub's resident memory, from the end of the third round to the last."""


class Requests:
    """Mutated bodies as requests: now and then path, type, size or encoding are wrong, or several go together."""

    def __init__(self, seed: int) -> None:
        self._mutator = Mutator(originals(), seed)
        self._random = random.Random(seed)

    def next(self, job: str) -> tuple[str, bytes, list[str]]:
        """Path, body, headers."""
        r, body = self._random, self._mutator.body()
        headers = [f"Content-Type: {'application/json' if r.random() < 0.97 else r.choice(TYPES)}"]
        path = f"{PATH}/{job}" if r.random() < 0.97 else f"{PATH}/{quote(r.randbytes(r.randint(0, 70)), safe='')}"
        if r.random() < 0.05:
            path, body = BATCH, b'{"updates":[' + b",".join((body, self._mutator.body(), self._mutator.body())) + b"]}"
        if r.random() < 0.002:
            body += b" " * MAX_BODY_BYTES
        if r.random() < 0.05:
            body, encoding = self._encoded(body)
            headers.append(f"Content-Encoding: {encoding}")
        return path, body, headers

    def _encoded(self, body: bytes) -> tuple[bytes, str]:
        """The body in an encoding, and its name; often it is damaged, or another one is named."""
        r, encoding = self._random, self._random.choice(ENCODINGS)
        compressed = zlib.compress(body) if encoding == "deflate" else gzip.compress(body, mtime=0)
        return r.choice((compressed, compressed, garbled(r, compressed), body)), encoding


@pytest.fixture
def tables(migrated_database: DatabaseSettings) -> OnMariaDB:
    """The hub's, which take no illegal row."""
    made = OnMariaDB(migrated_database)
    for trigger in TRIGGERS:
        made.execute(trigger)
    return made


async def test_no_request_is_a_fault_of_the_hub_or_leaves_an_illegal_row(hub: RealHub, tables: OnMariaDB) -> None:
    requests, answers, resident = Requests(seed=1), Counter[int](), list[int]()
    async with raw_clients("127.0.0.1", hub.port, CLIENTS) as senders:
        for number in range(ROUNDS):
            jobs = [f"job-{number}-{n}" for n in range(JOBS)]
            for job in jobs:
                tables.add_job(running(job))
            shares = (jobs[n::CLIENTS] for n in range(CLIENTS))
            await asyncio.gather(
                *(post_all(one, requests, share, answers) for one, share in zip(senders, shares, strict=True))
            )
            resident.append(resident_bytes(hub.pid or 0))
    tables.close()
    assert complaints(hub) == []
    assert answers.total() == ROUNDS * JOBS * PER_JOB
    assert answers.keys() == {200, 204, 400, 404, 413, 415}
    assert answers[204] > answers.total() / 10
    assert resident[-1] - resident[2] < MAX_GROWTH_BYTES, resident


async def post_all(client: RawClient, requests: Requests, jobs: Sequence[str], answers: Counter[int]) -> None:
    for job in jobs:
        for _ in range(PER_JOB):
            path, body, headers = requests.next(job)
            answer = await client.post(path, body, *headers)
            answers[answer.status] += 1
            legal = {204, 400, 404, 413, 415} if path != BATCH else {200, 400, 413, 415}
            assert answer.status in legal, (answer, path, headers, keep("fault-over-http", [body]))
            assert answer.status < 300 or is_problem(answer), (answer, path, headers)


def is_problem(answer: Answer) -> bool:
    said = msgspec.json.decode(answer.body)
    return (
        answer.content_type.startswith("application/problem+json")
        and set(said) == {"type", "title", "status", "detail"}
        and said["status"] == answer.status
    )


def complaints(hub: RealHub) -> list[str]:
    """What the hub says that it should not: errors, and tracebacks of any level."""
    return [line for line in hub.log().splitlines() if " ERROR " in line or "Traceback" in line]


GOOD = b'{"status":"running"}'
HEAD = b"POST /api/v1/telemetry/backup/j1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
GET = b" HTTP/1.1\r\nHost: 127.0.0.1\r\n"
REQUESTS = (
    HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD,
    HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\n\r\n",
    b"GET /api/v1/telemetry/backup?status=running&limit=5&vm=x" + GET + b"\r\n",
    b"GET /api/v1/telemetry/backup/j1/history?points=5" + GET + b"\r\n",
    b"GET /metrics" + GET + b"Connection: close\r\n\r\n",
)


async def test_bytes_that_are_hardly_a_request_are_no_fault_either(hub: RealHub, tables: OnMariaDB) -> None:
    tables.add_job(running("j1"))
    r, answers = random.Random(3), Counter[int]()
    for _ in range(20):
        thrown = (
            throw("127.0.0.1", hub.port, garbled(r, r.choice(REQUESTS)), patience_seconds=0.1) for _ in range(100)
        )
        for answer in await asyncio.gather(*thrown):
            assert answer is None or answer.status < 400 or is_problem(answer), answer
            answers[answer.status if answer is not None else 0] += 1
    good = await throw("127.0.0.1", hub.port, REQUESTS[0], patience_seconds=10)
    assert good is not None
    assert good.status == 204
    tables.close()
    assert complaints(hub) == []
    assert max(answers) < 500
    assert answers[400] > 1_000
