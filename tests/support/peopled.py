"""Jobs of each kind, a transaction that changes something of everything, and whether it was done."""

import time
from collections.abc import Callable

from msgspec import convert, structs

from sha_daemon.batch import Arrival, Outcome, apply
from sha_daemon.database import Session
from sha_daemon.records import Disk, Job, JobView
from telemetry_common.contract import Update
from tests.support.databases import running, write
from tests.support.samples import START, sample
from tests.support.troubled import DEADLY, Troubled

AT = float(START)
JOBS = (
    running("heard"),
    running("job-1", disks=(Disk(disk_index=0),)),
    running("silent", heard_us=1),
    running("unseen"),
    Job(job_id="ended", status="completed"),
    running(DEADLY, heard_us=1000),
)


def everything(session: Session) -> None:
    """A transaction that changes something in each table in every way there is."""
    job = session.lock_jobs(["job-1"]).jobs["job-1"]
    changed = structs.replace(job, bytes_transferred=job.bytes_transferred + 5, error_message="x" * 300)
    session.write_jobs([changed])
    session.write_texts([changed])
    session.write_disks([(job, structs.replace(job.disks[0], bytes_transferred=5)), (job, Disk(disk_index=1))])
    session.add_history([sample(200, seq=5)])
    session.history.prune(after=0, before=AT + 100, now=time.time(), rows=10)
    session.hear(["heard"], AT, 9)
    session.see_unseen_jobs(3)
    session.fail_silent("silent", 2, AT, "stalled")
    session.advance_listening(100)


async def peopled(troubled: Troubled) -> Troubled:
    for job in JOBS:
        troubled.add_job(structs.replace(job, heard_us=None))
        await troubled.database.run(write(job))
    await troubled.database.run(lambda session: session.add_history([sample(0, seq=1)]))
    return troubled


Stored = tuple[list[JobView | None], list[tuple[int | None, float, int]], int]


async def all_of_it(troubled: Troubled) -> Stored:
    """All that is stored."""

    def read(session: Session) -> tuple[list[JobView | None], int]:
        return [session.job(job.job_id) for job in JOBS], session.listening_us()

    views, listened_us = await troubled.database.run(read)
    return views, troubled.history("job-1"), listened_us


def done(troubled: Stored) -> bool:
    """Whether `everything` was done, once. All of it or nothing of it must be there."""
    views, history, listened_us = troubled
    jobs = {view.job.job_id: view.job for view in views if view is not None}
    signs = {
        jobs["job-1"].bytes_transferred == 5,
        jobs["job-1"].error_message == "x" * 300,
        [disk.bytes_transferred for disk in jobs["job-1"].disks] == [5, 0],
        [seq for seq, _, _ in history] == [5],
        jobs["heard"].heard_us == 9,
        jobs["unseen"].heard_us == 3,
        jobs["silent"].status == "failed",
        listened_us == 100,
    }
    assert len(signs) == 1, "a part of it"
    return signs.pop()


def said(seq: int, **values: object) -> Callable[[Session], Outcome]:
    """A message about job-1, as the hub takes it."""
    arrival = Arrival("job-1", convert({"status": "running", "seq": seq} | values, Update), AT)
    return lambda session: apply(session, [arrival], [], lambda listened_us: max(listened_us, 10))[0]
