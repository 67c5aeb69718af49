"""Two hundred thousand bodies that no sender would send: none is a fault of the hub, and no row comes to harm.

Most go straight to the receiving code, over the in-memory twin of the database; the rest over real sockets to a real
MariaDB. What fails is written to golden/found/, and sent again in every run from then on.
"""

import asyncio
import gc
import logging
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from msgspec import structs

from sha_daemon.app import Hub
from sha_daemon.config import DatabaseSettings, HubSettings
from sha_daemon.records import Disk
from sha_daemon.replies import Problem
from telemetry_common.clock import SystemClock
from telemetry_common.contract import MAX_BODY_BYTES
from telemetry_common.lifecycle import Lifecycle
from testbed.memory_database import MemoryDatabase
from tests.support.databases import OnMariaDB, Prepared, running, stored
from tests.support.found import found, keep, originals
from tests.support.hub import Heard, running_hub, virtual_hub
from tests.support.legal import TRIGGERS, wrong
from tests.support.mutations import Mutator, garbled
from tests.support.raw_http import Answer, RawClient, raw_clients, throw

PATH = "/api/v1/telemetry/backup"
BATCH = "/api/v1/telemetry/batch"
LEGAL_ANSWERS = {204, 400, 404, 413, 415}

SEEDS, ROUNDS, BODIES = range(4), 4, 11_000
HTTP_SEEDS, HTTP_ROUNDS, HTTP_BODIES = range(3), 4, 2_000
CLIENTS = 10
TYPES = ("text/plain", "application/jsonp", "application/json; charset=utf-16", "", "application/json,text/plain")
TOGETHER = 250
"""Updates under way at once: what a batch takes."""
PER_JOB = 40
"""Messages of one job; with many more it would have ended before most of them."""
MAX_GROWTH_BYTES = 8 << 20
"""Of resident memory, from the end of the first round to the last. A leak of every second body would be more."""


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def groups(count: int) -> Iterator[range]:
    """The numbers of the messages that are under way together."""
    return (range(start, min(start + TOGETHER, count)) for start in range(0, count, TOGETHER))


def is_grown(resident: Sequence[int]) -> bool:
    return resident[-1] - resident[0] > MAX_GROWTH_BYTES


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the hub says that it should not: errors, and tracebacks of any level."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


async def answer(hub: Hub, job_id: str, body: bytes) -> int:
    try:
        return (await hub.receiver.receive("backup", job_id, "application/json", body)).status
    except Problem as problem:
        return problem.status


async def one_round(hub: Hub, database: MemoryDatabase, mutator: Mutator, answers: Counter[int]) -> None:
    jobs = [f"job-{n}" for n in range(BODIES // PER_JOB + 1)]
    for job in jobs:
        database.add_job(running(job))
    for group in groups(BODIES):
        bodies = {n: mutator.body() for n in group}
        asked = [jobs[n // PER_JOB] for n in group]
        before = {job: database.tables.jobs[job].job for job in asked}
        got = await asyncio.gather(*(answer(hub, jobs[n // PER_JOB], bodies[n]) for n in group), return_exceptions=True)
        for n, status in zip(group, got, strict=True):
            assert status in LEGAL_ANSWERS, (status, keep("fault", [bodies[n]]))
        for job, row in before.items():
            said = [bodies[n] for n in group if jobs[n // PER_JOB] == job]
            assert not wrong(row, database.tables.jobs[job].job), keep("illegal-row", said)
        answers.update(status for status in got if isinstance(status, int))


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_body_is_a_fault_of_the_receiving_code(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    mutator, answers, resident = Mutator(originals(), seed), Counter[int](), list[int]()
    with caplog.at_level(logging.WARNING):
        for _ in range(ROUNDS):
            database = MemoryDatabase(SystemClock())
            async with virtual_hub(database, SystemClock()) as hub:
                await one_round(hub, database, mutator, answers)
            resident.append(resident_bytes())
    assert complaints(caplog) == []
    assert answers.total() == ROUNDS * BODIES
    assert min(answers[204], answers[400]) > answers.total() / 10
    assert not is_grown(resident), resident


class Requests:
    """Mutated bodies as requests: now and then the path, the type or the size is wrong, or several go together."""

    def __init__(self, seed: int) -> None:
        self._mutator = Mutator(originals(), seed)
        self._random = random.Random(seed)

    def next(self, job: str) -> tuple[str, bytes, str]:
        """Path, body, Content-Type."""
        r, body = self._random, self._mutator.body()
        kind = "application/json" if r.random() < 0.97 else r.choice(TYPES)
        path = f"{PATH}/{job}" if r.random() < 0.97 else f"{PATH}/{quote(r.randbytes(r.randint(0, 70)), safe='')}"
        if r.random() < 0.05:
            path, body = BATCH, b'{"updates":[' + b",".join((body, self._mutator.body(), self._mutator.body())) + b"]}"
        if r.random() < 0.001:
            body += b" " * MAX_BODY_BYTES
        return path, body, kind


async def post_all(client: RawClient, requests: Requests, jobs: Sequence[str], answers: Counter[int]) -> None:
    for job in jobs:
        for _ in range(PER_JOB):
            path, body, kind = requests.next(job)
            answer = await client.post(path, body, f"Content-Type: {kind}")
            answers[answer.status] += 1
            legal = LEGAL_ANSWERS if path != BATCH else {200, 400, 413, 415}
            assert answer.status in legal, (answer, path, kind, keep("fault-over-http", [body]))
            assert answer.status < 300 or is_problem(answer), (answer, path, kind)


def is_problem(answer: Answer) -> bool:
    said = msgspec.json.decode(answer.body)
    return (
        answer.content_type.startswith("application/problem+json")
        and set(said) == {"type", "title", "status", "detail"}
        and said["status"] == answer.status
    )


@pytest.mark.integration
@pytest.mark.parametrize("seed", HTTP_SEEDS)
async def test_no_request_is_a_fault_of_the_hub_or_leaves_an_illegal_row(
    migrated_database: DatabaseSettings, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    tables, answers, resident = OnMariaDB(migrated_database), Counter[int](), list[int]()
    for trigger in TRIGGERS:
        tables.execute(trigger)
    requests = Requests(100 + seed)
    with caplog.at_level(logging.WARNING):
        async with (
            running_hub(HubSettings(database=migrated_database)) as (_, client),
            raw_clients(client.host, client.port or 0, CLIENTS) as senders,
        ):
            for number in range(HTTP_ROUNDS):
                jobs = [f"job-{number}-{n}" for n in range(HTTP_BODIES // PER_JOB)]
                for job in jobs:
                    tables.add_job(running(job))
                shares = (jobs[n::CLIENTS] for n in range(CLIENTS))
                await asyncio.gather(
                    *(post_all(s, requests, share, answers) for s, share in zip(senders, shares, strict=True))
                )
                resident.append(resident_bytes())
    await tables.database.close()
    tables.close()
    assert complaints(caplog) == []
    assert answers.total() == HTTP_ROUNDS * HTTP_BODIES
    assert answers.keys() == LEGAL_ANSWERS | {200}
    assert answers[204] > answers.total() / 10
    assert not is_grown(resident), resident


GOOD = b'{"status":"running"}'
HEAD = b"POST /api/v1/telemetry/backup/j1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
REQUESTS = (
    HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD,
    HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\n\r\n",
    b"GET /api/v1/telemetry/backup?status=running&limit=5 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
)


async def test_bytes_that_are_hardly_a_request_are_no_fault_either(
    migrated_database: DatabaseSettings, caplog: pytest.LogCaptureFixture
) -> None:
    r, answers = random.Random(3), Counter[int | None]()
    tables = OnMariaDB(migrated_database)
    tables.add_job(running("j1"))
    # What is no HTTP at all the library logs itself; the daemons silence it (telemetry_common.logs).
    caplog.set_level(logging.CRITICAL, "aiohttp.server")
    async with running_hub(HubSettings(database=migrated_database)) as (_, client):
        place = client.host, client.port or 0
        for _ in range(20):
            thrown = (throw(*place, garbled(r, r.choice(REQUESTS)), patience_seconds=0.1) for _ in range(100))
            answers.update(await asyncio.gather(*thrown))
        assert await throw(*place, REQUESTS[0], patience_seconds=10) == 204
    await tables.database.close()
    tables.close()
    assert complaints(caplog) == []
    assert all(status is None or status < 500 for status in answers), answers
    assert answers[400] > 1_000


async def test_what_a_fault_was_ever_found_with_is_harmless_now(prepared: Prepared) -> None:
    clock = SystemClock()
    hub = Hub(HubSettings(), clock, lambda *_: prepared.database, Lifecycle(Heard(), clock))
    async with hub.running(ping_seconds=5.0):
        for name, messages in found().items():
            prepared.add_job(running(name))
            for message in messages:
                assert await answer(hub, name, message) in LEGAL_ANSWERS, name
            assert not wrong(running(name), await stored(prepared, name)), name


async def test_the_order_of_a_job_cannot_be_spoilt_for_ever_by_a_number() -> None:
    database = MemoryDatabase(SystemClock())
    database.add_job(running("j1"))
    async with virtual_hub(database, SystemClock()) as hub:
        assert await answer(hub, "j1", found()["poisons-the-order"][0]) == 400
        assert await answer(hub, "j1", b'{"status":"running","seq":1760106225000001,"bytes_transferred":7}') == 204
    assert database.tables.jobs["j1"].job.bytes_transferred == 7


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"bytes_transferred": 4}, "bytes"),
        ({"progress_percent": 100.5}, "percent"),
        ({"seq": 6}, "seq"),
        ({"status": "completed", "progress_percent": 100.0}, "time of the end"),
        ({"disks": ()}, "disks"),
    ],
)
def test_a_row_that_came_to_harm_would_be_noticed(change: dict[str, object], named: str) -> None:
    before = running("j1", bytes_transferred=5, seq=7, disks=(Disk(disk_index=0),))
    assert wrong(before, before) == []
    assert wrong(before, structs.replace(before, **change)) == [named]
