"""Rows that another program holds, or that the server refuses: one suite for MariaDB and the in-memory twin."""

from collections.abc import Callable

import pytest

from sha_daemon.database import DatabaseError, RowLocked, RowRefused, Session
from sha_daemon.fingerprint import Question
from sha_daemon.records import Job
from telemetry_common.contract import JobStatus
from tests.support.databases import running, write
from tests.support.peopled import AT, all_of_it, peopled
from tests.support.samples import sample
from tests.support.troubled import Troubled

WAITING: dict[str, Callable[[Session], object]] = {
    "locked": lambda session: session.lock_jobs(["heard", "job-1"]),
    "written": lambda session: session.write_jobs([running("heard"), running("job-1")]),
    "written in words": lambda session: session.write_texts([running("job-1", current_phase="x")]),
    "heard": lambda session: session.hear(["heard", "job-1"], AT, 50),
    "failed": lambda session: session.fail_silent("job-1", 100, AT, "stalled"),
}


async def nothing_stays(troubled: Troubled, work: Callable[[Session], object], error: type[DatabaseError]) -> None:
    before = await all_of_it(troubled)

    def more(session: Session) -> None:
        session.hear(["heard"], AT, 77)
        session.advance_listening(100)
        session.add_history([sample(200, seq=9)])
        work(session)

    with pytest.raises(error):
        await troubled.database.run(more)
    assert await all_of_it(troubled) == before


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("status", ["running", "completed"])
@pytest.mark.parametrize("what", WAITING)
async def test_what_waits_for_a_held_row_in_vain_is_undone_as_a_whole(
    troubled: Troubled, what: str, status: JobStatus
) -> None:
    await peopled(troubled)
    await troubled.database.run(write(Job(job_id="job-1", status=status, heard_us=1)))
    troubled.hold("job-1")
    await nothing_stays(troubled, WAITING[what], RowLocked)
    troubled.hold(None)
    await troubled.database.run(WAITING[what])


READING: dict[str, Callable[[Session], object]] = {
    "one job": lambda session: session.job("job-1"),
    "some jobs": lambda session: session.views(["job-1", "heard"]),
    "a page": lambda session: session.jobs([], 10, None),
    "counts": lambda session: session.counts(),
    "fingerprints": lambda session: session.fingerprints(Question(limit=10, made_within_seconds=60)),
    "silent jobs": lambda session: session.silent_jobs(100, 10),
    "never heard": lambda session: session.never_heard_jobs(10),
    "history": lambda session: session.history.first("job-1", 10),
    "other jobs": lambda session: session.lock_jobs(["heard", "silent"]),
    "their verdict": lambda session: session.fail_silent("heard", 100, AT, "stalled"),
    "the clock": lambda session: session.advance_listening(0),
    "the question whether it writes": lambda session: session.check_writes(),
}


@pytest.mark.usefixtures("at_once")
async def test_readers_and_other_jobs_do_not_wait_for_a_held_row(troubled: Troubled) -> None:
    await peopled(troubled)
    free = [await troubled.database.run(question) for question in READING.values()]
    troubled.hold("job-1")
    held = [await troubled.database.run(question) for question in READING.values()]
    assert dict(zip(READING, held, strict=True)) == dict(zip(READING, free, strict=True))
    await troubled.database.run(lambda session: session.add_history([sample(200, seq=9)]))


@pytest.mark.usefixtures("at_once")
async def test_held_disks_keep_back_those_only_who_want_them(troubled: Troubled) -> None:
    await peopled(troubled)
    await troubled.database.run(write(running("job-1", heard_us=1)))
    troubled.hold("job-1", disks_only=True)
    await nothing_stays(troubled, WAITING["locked"], RowLocked)
    for work in (work for name, work in WAITING.items() if name != "locked"):
        await troubled.database.run(work)


@pytest.mark.parametrize("disks_only", [True, False])
async def test_who_holds_a_row_is_asked_without_waiting(troubled: Troubled, disks_only: bool) -> None:
    await peopled(troubled)
    troubled.hold("job-1", disks_only=disks_only)
    assert await troubled.database.run(lambda session: session.held_jobs(["job-1", "heard", "nobody"])) == {"job-1"}
    troubled.hold(None)
    assert await troubled.database.run(lambda session: session.held_jobs(["job-1", "heard"])) == set()


async def readings(troubled: Troubled) -> dict[str, int | None]:
    views = await troubled.database.run(lambda session: session.views(["unseen", "heard"]))
    return {job_id: view.job.heard_us for job_id, view in views.items()}


@pytest.mark.parametrize("trouble", ["hold", "refuse"])
async def test_an_unseen_job_whose_row_is_held_or_refused_is_left_out_and_the_others_are_seen(
    troubled: Troubled, trouble: str
) -> None:
    await peopled(troubled)
    getattr(troubled, trouble)("unseen")
    await troubled.database.run(lambda session: session.see_unseen_jobs(3))
    assert await readings(troubled) == {"unseen": None, "heard": 3}


REFUSED = {name: work for name, work in WAITING.items() if name != "locked"}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_row_that_the_server_refuses_undoes_all_of_the_transaction(troubled: Troubled, what: str) -> None:
    await peopled(troubled)
    await troubled.database.run(write(running("job-1", heard_us=1)))
    troubled.refuse("job-1")
    await nothing_stays(troubled, REFUSED[what], RowRefused)
    await troubled.database.run(lambda session: session.lock_jobs(["job-1"]))


async def test_a_refused_row_that_would_not_be_changed_harms_nothing(troubled: Troubled) -> None:
    await peopled(troubled)
    troubled.refuse("ended")
    await troubled.database.run(lambda session: session.hear(["heard", "ended"], AT, 50))
    assert not await troubled.database.run(lambda session: session.fail_silent("ended", 100, AT, "stalled"))
    assert (await readings(troubled))["heard"] == 50
