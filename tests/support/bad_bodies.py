"""Mutated bodies at the hub's receiving code over the in-memory twin, many at once, and what became of the rows."""

import asyncio
from collections import Counter
from collections.abc import Iterator

from sha_daemon.app import Hub
from sha_daemon.replies import Problem
from testbed.memory_database import MemoryDatabase
from tests.support.databases import running
from tests.support.found import keep
from tests.support.legal import wrong
from tests.support.mutations import Mutator

LEGAL_ANSWERS = {204, 400, 404}
TOGETHER = 250
"""Updates under way at once: what a batch takes."""
PER_JOB = 40
"""Messages of one job; with many more it would have ended before most of them."""


def groups(count: int) -> Iterator[range]:
    """The numbers of the messages that are under way together."""
    return (range(start, min(start + TOGETHER, count)) for start in range(0, count, TOGETHER))


async def answer(hub: Hub, job_id: str, body: bytes) -> int:
    try:
        return (await hub.receiver.receive("backup", job_id, "application/json", body)).status
    except Problem as problem:
        return problem.status


async def one_round(hub: Hub, database: MemoryDatabase, mutator: Mutator, answers: Counter[int], count: int) -> None:
    """AssertionError, with the file that keeps the bodies, for a fault or a row that came to harm."""
    jobs = [f"job-{n}" for n in range(count // PER_JOB + 1)]
    for job in jobs:
        database.add_job(running(job))
    for group in groups(count):
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
