"""Two hubs, or a hub and its own watchdog, on one job in the same moment: one suite for MariaDB and the in-memory twin.

The twin knows no overlapping: one transaction comes behind the other. That is what MariaDB's locks must make of those
that overlap there.
"""

import asyncio
import time
from collections.abc import Callable

import pytest
from msgspec import convert, structs

from sha_daemon.batch import Arrival, Outcome, apply
from sha_daemon.database import Session
from sha_daemon.records import Disk, Job, Locked
from telemetry_common.contract import Update
from tests.support.databases import Work, running, stored, write
from tests.support.troubled import Troubled

AT = 1_760_000_000.0
LONG = "x" * 10_000


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that waits for another does so for as long as this machine may take."""
    monkeypatch.setattr("sha_daemon.statements.LOCK_WAIT_SECONDS", 60)


def more(session: Session) -> int:
    """Read, decide, write."""
    job = session.lock_jobs(["job-1"]).jobs["job-1"]
    session.write_jobs([structs.replace(job, bytes_transferred=job.bytes_transferred + 1)])
    return job.bytes_transferred


def said(seq: int, status: str = "running", **values: object) -> Work[str | None]:
    """A message about job-1, as the hub takes it when the listening clock reads 60."""
    arrival = Arrival("job-1", convert({"status": status, "seq": seq} | values, Update), AT)

    def taken(session: Session) -> str | None:
        outcome: Outcome = apply(session, [arrival], [], lambda listened_us: max(listened_us, 60))[0]
        return "revived" if outcome.revived_after is not None else outcome.result

    return taken


def heard(reading_us: int) -> Work[None]:
    return lambda session: session.hear(["job-1"], AT + reading_us, reading_us)


def seen(session: Session) -> None:
    session.see_unseen_jobs(20)


def verdict(session: Session) -> bool:
    """Of whoever was not heard since the clock read 50."""
    return session.fail_silent("job-1", 50, AT, "stalled")


def cancelled(session: Session) -> None:
    """Another program's hand."""
    job = session.lock_jobs(["job-1"]).jobs["job-1"]
    session.write_jobs([structs.replace(job, status="cancelled")])


SILENT = running("job-1", heard_us=10)
NEVER_HEARD = running("job-1")
RACES: dict[str, tuple[Job, Work[object], Work[object], tuple[object, object], dict[str, object]]] = {
    "two changes": (SILENT, more, more, (0, 1), {"bytes_transferred": 2}),
    "an end, a verdict": (SILENT, said(5, "completed"), verdict, ("applied", False), {"status": "completed"}),
    "a verdict, an end": (SILENT, verdict, said(5, "completed"), (True, "revived"), {"status": "completed"}),
    "progress, a verdict": (SILENT, said(5), verdict, ("applied", False), {"status": "running", "heard_us": 60}),
    "a verdict, progress": (SILENT, verdict, said(5), (True, "revived"), {"status": "running", "error_message": None}),
    "hearing, a verdict": (SILENT, heard(50), verdict, (None, False), {"status": "running", "heard_us": 50}),
    "hearing early, a verdict": (SILENT, heard(49), verdict, (None, True), {"status": "failed", "heard_us": 49}),
    "a verdict, hearing": (SILENT, verdict, heard(50), (True, None), {"status": "failed", "heard_us": 10}),
    "two verdicts": (SILENT, verdict, verdict, (True, False), {"status": "failed"}),
    "hearing, hearing later": (SILENT, heard(50), heard(70), (None, None), {"heard_us": 70}),
    "hearing, hearing earlier": (SILENT, heard(70), heard(50), (None, None), {"heard_us": 70}),
    "hearing, seeing": (NEVER_HEARD, heard(50), seen, (None, None), {"heard_us": 50}),
    "seeing, hearing": (NEVER_HEARD, seen, heard(50), (None, None), {"heard_us": 50, "last_telemetry_at": AT + 50}),
    "seeing, seeing": (NEVER_HEARD, seen, seen, (None, None), {"heard_us": 20, "last_telemetry_at": None}),
    "seeing, a verdict": (NEVER_HEARD, seen, verdict, (None, True), {"status": "failed", "heard_us": 20}),
    "a verdict, seeing": (SILENT, verdict, seen, (True, None), {"status": "failed", "heard_us": 10}),
    "progress, seeing": (NEVER_HEARD, said(5), seen, ("applied", None), {"heard_us": 60}),
    "an end, seeing": (NEVER_HEARD, said(5, "completed"), seen, ("applied", None), {"status": "completed"}),
    "a cancellation, an end": (SILENT, cancelled, said(5, "completed"), (None, "final"), {"status": "cancelled"}),
    "an end, a cancellation": (SILENT, said(5, "completed"), cancelled, ("applied", None), {"status": "cancelled"}),
    "a cancellation, a verdict": (SILENT, cancelled, verdict, (None, False), {"status": "cancelled"}),
    "a cancellation, hearing": (SILENT, cancelled, heard(50), (None, None), {"heard_us": 10}),
    "the same message twice": (SILENT, said(5), said(5), ("applied", "duplicate"), {"seq": 5}),
    "a message, an earlier one": (SILENT, said(6), said(5), ("applied", "stale"), {"seq": 6}),
    "an end, an earlier message": (SILENT, said(6, "completed"), said(5), ("applied", "final"), {"seq": 6}),
}
"""The job before, what is done first and second at the same time, what each returns, and the job after."""


@pytest.mark.parametrize("race", RACES)
async def test_what_is_done_in_the_same_moment_is_done_one_after_the_other(troubled: Troubled, race: str) -> None:
    before, first, second, results, after = RACES[race]
    troubled.add_job(running("job-1"))
    await troubled.database.run(write(before))
    assert await troubled.in_order(first, second) == results
    job = structs.asdict(await stored(troubled))
    assert {name: job[name] for name in after} == after


async def test_of_many_changes_on_two_connections_none_is_lost(troubled: Troubled) -> None:
    troubled.add_job(running("job-1"))
    found = await asyncio.gather(*[db.run(more) for _ in range(40) for db in (troubled.database, troubled.other)])
    assert sorted(found) == list(range(80))
    assert (await stored(troubled)).bytes_transferred == 80


async def test_of_many_messages_on_two_connections_each_is_in_the_history_once(troubled: Troubled) -> None:
    troubled.add_job(running("job-1"))
    both = (troubled.database, troubled.other)
    results = await asyncio.gather(*[db.run(said(seq, bytes_transferred=seq)) for seq in range(1, 31) for db in both])
    assert results.count("applied") + results.count("duplicate") + results.count("stale") == 60
    assert sorted(seq or 0 for seq, _, _ in troubled.history("job-1")) == list(range(1, 31))
    job = await stored(troubled)
    assert (job.seq, job.bytes_transferred) == (30, 30)


async def test_hubs_that_lock_the_same_jobs_in_any_order_wait_and_do_not_deadlock(troubled: Troubled) -> None:
    names = [f"job-{n}" for n in range(10)]
    for name in names:
        troubled.add_job(running(name))

    def all_of_them(order: list[str]) -> Callable[[Session], None]:
        def work(session: Session) -> None:
            jobs = session.lock_jobs(order).jobs.values()
            session.write_jobs([structs.replace(job, bytes_transferred=job.bytes_transferred + 1) for job in jobs])

        return work

    ways = ((troubled.database, names), (troubled.other, names[::-1]))
    await asyncio.gather(*[db.run(all_of_them(order)) for _ in range(20) for db, order in ways])
    moved = [(await stored(troubled, name)).bytes_transferred for name in names]
    assert moved == [40] * 10


def changed(session: Session) -> None:
    job = session.lock_jobs(["job-1"]).jobs["job-1"]
    after = structs.replace(job, bytes_transferred=9, error_message=LONG)
    session.write_jobs([after])
    session.write_texts([after])
    session.write_disks([(job, structs.replace(job.disks[0], bytes_transferred=9)), (job, Disk(disk_index=1))])


def looked(session: Session) -> None:
    """A transaction that has read all of it before, without a lock."""
    session.listening_us()
    session.job("job-1")


async def test_what_is_read_behind_a_lock_is_what_was_committed_last(troubled: Troubled) -> None:
    """However old the transaction is that reads it, and whatever it has read before."""
    troubled.add_job(running("job-1", disks=(Disk(disk_index=0),)))

    def locked(session: Session) -> tuple[Locked, int]:
        return session.lock_jobs(["job-1"]), session.listening_us()

    def both(session: Session) -> None:
        changed(session)
        session.advance_listening(100)

    found, listened_us = await troubled.overtaken(looked, both, locked)
    job = found.jobs["job-1"]
    assert (job.bytes_transferred, job.error_message) == (9, LONG)
    assert [(disk.disk_index, disk.bytes_transferred) for disk in job.disks] == [(0, 9), (1, 0)]
    assert found.listened_us == listened_us == 100


async def test_what_was_waited_for_is_what_was_committed_last(troubled: Troubled) -> None:
    troubled.add_job(running("job-1", disks=(Disk(disk_index=0),)))
    _, found = await troubled.in_order(changed, lambda session: session.lock_jobs(["job-1"]).jobs["job-1"])
    assert (found.bytes_transferred, found.error_message) == (9, LONG)
    assert [(disk.disk_index, disk.bytes_transferred) for disk in found.disks] == [(0, 9), (1, 0)]


@pytest.mark.parametrize(("change", "result"), [(heard(60), False), (heard(40), True), (cancelled, False)])
async def test_a_verdict_is_of_the_job_as_it_is_and_not_as_it_was_read(
    troubled: Troubled, change: Work[object], result: bool
) -> None:
    troubled.add_job(running("job-1"))
    await troubled.database.run(write(SILENT))
    assert await troubled.overtaken(looked, change, verdict) is result


async def test_a_disk_that_both_have_found_missing_is_added_once(troubled: Troubled) -> None:
    troubled.add_job(running("job-1"))
    first, second = (said(seq, disks=[{"disk_index": 0, "bytes_transferred": seq}]) for seq in (1, 2))
    assert await troubled.in_order(first, second) == ("applied", "applied")
    assert [disk.bytes_transferred for disk in (await stored(troubled)).disks] == [2]


async def test_each_second_is_listened_to_once_however_long_one_waits_for_the_other(troubled: Troubled) -> None:
    """What the second adds begins where the first has ended, though it asked before that."""

    def listened(session: Session) -> int:
        return session.advance_listening(3_600_000_000)

    began = time.monotonic()
    before = await troubled.database.run(listened)
    between = time.monotonic()
    first, second = await troubled.in_order(listened, listened, waiting_seconds=0.1)
    last_asked = time.monotonic()
    last = await troubled.database.run(listened)
    assert before <= first <= second <= last
    assert (last_asked - between) * 0.99e6 <= last - before <= (time.monotonic() - began) * 1.01e6
