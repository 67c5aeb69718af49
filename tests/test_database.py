"""One suite for both implementations of `Database`: MariaDB, and the in-memory twin of the fault simulation."""

from collections.abc import Callable
from typing import TypeVar

import pytest
from msgspec import structs

from sha_daemon import cursor
from sha_daemon.database import DatabaseAway, Session
from sha_daemon.records import Disk, Job, Locked, Sample
from tests.support.databases import Prepared, running, stored, write

T = TypeVar("T")

FULL = Job(
    job_id="job-1",
    status="failed",
    current_phase="finalizing",
    bytes_transferred=2**63 - 1,
    total_bytes=2**63 - 1,
    transfer_speed_bps=2**63 - 1,
    eta_seconds=2**31 - 1,
    progress_percent=42.57,
    error_message="disk full",
    started_at=1_760_000_000,
    completed_at=1_760_000_100,
    last_telemetry_at=1_760_000_101,
    seq=2**63 - 1,
    idle_seconds=17,
    heard_us=2**62,
    watchdog_failed_at=1_760_000_102,
    watchdog_message="Job stalled",
)
"""Every telemetry column filled to its limit."""


def disks_written(*disks: Disk) -> Callable[[Session], object]:
    def work(session: Session) -> object:
        job = session.lock_jobs(["job-1"]).jobs["job-1"]
        by_index = {disk.disk_index: disk.row_id for disk in job.disks}
        return session.write_disks([(job, structs.replace(d, row_id=by_index.get(d.disk_index))) for d in disks])

    return work


async def test_every_column_of_a_job_comes_back_as_it_was_written(prepared: Prepared) -> None:
    prepared.add_job(running("job-1"))
    await prepared.database.run(write(FULL))
    assert await stored(prepared) == FULL
    assert (await prepared.database.run(lambda session: session.lock_jobs(["job-1"]))).jobs["job-1"] == FULL


async def test_the_list_has_the_beginning_of_a_long_error_and_the_job_all_of_it(prepared: Prepared) -> None:
    error = "ä😀" * 600
    prepared.add_job(running("job-1"))
    await prepared.database.run(write(structs.replace(FULL, error_message=error)))
    page = await prepared.database.run(lambda session: session.jobs([], 10, None))
    assert page.jobs[0].job.error_message == error[:1000]
    assert (await stored(prepared)).error_message == error


async def test_what_is_none_is_written_as_none(prepared: Prepared) -> None:
    prepared.add_job(running("job-1", started_at=1_760_000_000.0))
    await prepared.database.run(write(FULL))
    empty = Job(job_id="job-1", status="pending")
    await prepared.database.run(write(empty))
    assert await stored(prepared) == empty


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a'b\"c\\d\\",
        "zero\0byte",
        "two\nlines\r\t",
        "😀 ä ß 漢字",
        "%s %(x)s {}",
        "-- ; DROP",
        "\u2028\x7f\x1b[2J",
        " blanks ",
    ],
)
async def test_any_text_survives_the_way_through_the_database(prepared: Prepared, text: str) -> None:
    prepared.add_job(running("job-1"))
    await prepared.database.run(write(structs.replace(FULL, current_phase=text, error_message=text)))
    job = await stored(prepared)
    assert (job.current_phase, job.error_message) == (text, text)


async def test_times_are_kept_in_whole_seconds_within_what_the_columns_hold(prepared: Prepared) -> None:
    prepared.add_job(running("job-1"))
    beyond = 5_000_000_000.9
    times = {"started_at": 0.2, "completed_at": beyond, "last_telemetry_at": beyond}
    await prepared.database.run(write(running("job-1", **times)))
    job = await stored(prepared)
    assert (job.started_at, job.completed_at, job.last_telemetry_at) == (1, 2**31 - 1, 5_000_000_000)


async def test_many_jobs_are_written_at_once_each_with_its_own_figures(prepared: Prepared) -> None:
    for n in range(40):
        prepared.add_job(running(f"job-{n:02}"))
    await prepared.database.run(write(*[running(f"job-{n:02}", bytes_transferred=n) for n in range(30)]))
    jobs = await prepared.database.run(lambda session: session.lock_jobs([f"job-{n:02}" for n in range(40)]))
    assert [jobs.jobs[f"job-{n:02}"].bytes_transferred for n in range(40)] == [*range(30), *[0] * 10]


async def test_long_error_texts_of_many_jobs_fit_in_one_transaction(prepared: Prepared) -> None:
    text = "\\'\"漢" * 4_000
    for n in range(250):
        prepared.add_job(running(f"job-{n}"))
    await prepared.database.run(write(*[running(f"job-{n}", error_message=text) for n in range(250)]))
    assert (await stored(prepared, "job-249")).error_message == text


@pytest.mark.parametrize(
    "other", ["JOB-Ä", "job-a", "Job-ä", "job-ä ", " job-ä", "job-ä\0", "job-" + "x" * 61, "\ud800", ""]
)
async def test_ids_are_compared_exactly_whatever_the_collation_says(prepared: Prepared, other: str) -> None:
    prepared.add_job(running("job-ä"))
    database = prepared.database
    assert await database.run(lambda session: session.lock_jobs([other])) == Locked()
    assert await database.run(lambda session: session.job(other)) is None
    await database.run(lambda session: session.hear([other], 1_760_000_000, 5))
    assert not await database.run(lambda session: session.fail_silent(other, 10, 1_760_000_000, "silent"))
    assert await stored(prepared, "job-ä") == running("job-ä")


async def test_nothing_is_locked_and_nothing_written_for_no_job(prepared: Prepared) -> None:
    def work(session: Session) -> object:
        session.write_jobs([])
        session.add_history([])
        session.hear([], 1.0, 1)
        return session.lock_jobs([]), list(session.write_disks([]))

    assert await prepared.database.run(work) == (Locked(), [])


async def test_disks_are_written_and_new_ones_added(prepared: Prepared) -> None:
    prepared.add_job(running("job-1", disks=(Disk(disk_index=0),)))
    first = Disk(disk_index=0, status="completed", bytes_transferred=2**63 - 1, completed_at=1_760_000_000.9)
    second = Disk(disk_index=65535, status="running", bytes_transferred=5, total_bytes=7, progress_percent=71.42)
    assert await prepared.database.run(disks_written(first, second)) == []
    disks = [structs.replace(disk, row_id=None) for disk in (await stored(prepared)).disks]
    assert disks == [structs.replace(first, completed_at=1_760_000_000), second]


async def test_a_disk_without_a_context_gets_no_row_where_the_table_demands_one(demanding: Prepared) -> None:
    demanding.add_job(running("job-1"))
    refused = await demanding.database.run(disks_written(Disk(disk_index=0), Disk(disk_index=1)))
    assert refused == [("job-1", 0), ("job-1", 1)]
    assert (await stored(demanding)).disks == ()


async def test_a_disk_takes_the_context_of_its_job(demanding: Prepared) -> None:
    demanding.add_job(running("job-1", context_id="ctx"))
    assert await demanding.database.run(disks_written(Disk(disk_index=3))) == []
    assert [disk.disk_index for disk in (await stored(demanding)).disks] == [3]


async def test_a_disk_that_got_its_row_meanwhile_is_refused_and_the_others_are_not(prepared: Prepared) -> None:
    prepared.add_job(running("job-1", disks=(Disk(disk_index=0),)))

    def work(session: Session) -> object:
        job = session.lock_jobs(["job-1"]).jobs["job-1"]
        return session.write_disks([(job, Disk(disk_index=0)), (job, Disk(disk_index=1))])

    assert await prepared.database.run(work) == [("job-1", 0)]
    assert [disk.disk_index for disk in (await stored(prepared)).disks] == [0, 1]


def sample(seq: int | None, at: float, moved: int) -> Sample:
    return Sample(
        job_id="job-1",
        seq=seq,
        at=at,
        status="running",
        current_phase="transferring",
        bytes_transferred=moved,
        total_bytes=10,
        transfer_speed_bps=1,
        progress_percent=12.34,
    )


async def test_history_keeps_one_sample_per_seq_and_all_without_one(prepared: Prepared) -> None:
    database = prepared.database
    await database.run(lambda s: s.add_history([sample(7, 1_760_000_000.1239, 1), sample(None, 1_760_000_001, 2)]))
    await database.run(lambda s: s.add_history([sample(7, 1_760_000_009, 3), sample(None, 1_760_000_001, 4)]))
    assert prepared.history("job-1") == [
        (7, pytest.approx(1_760_000_000.123, abs=1e-6), 1),
        (None, 1_760_000_001, 2),
        (None, 1_760_000_001, 4),
    ]


async def pages(prepared: Prepared, statuses: list[str], size: int) -> list[list[str]]:
    found: list[list[str]] = []
    after: str | None = None
    while True:
        page = await prepared.database.run(lambda s, after=after: s.jobs(statuses, size, after))  # type: ignore[misc]
        found.append([view.job.job_id for view in page.jobs])
        after = page.cursor
        if after is None:
            return found


async def test_pages_run_from_the_newest_to_the_oldest_without_a_gap(prepared: Prepared) -> None:
    for job_id, created_at in [("a", 3000), ("b", 1000), ("c", 3000), ("d", 2000), ("e", 3000)]:
        prepared.add_job(running(job_id), created_at)
    assert await pages(prepared, [], 2) == [["e", "c"], ["a", "d"], ["b"]]
    assert await pages(prepared, [], 5) == [["e", "c", "a", "d", "b"]]


async def test_the_list_can_be_of_certain_statuses(prepared: Prepared) -> None:
    for n, status in enumerate(["pending", "running", "failed", "running"]):
        prepared.add_job(Job(job_id=f"job-{n}", status=status), 1000 + n)  # type: ignore[arg-type]
    assert await pages(prepared, ["running"], 1) == [["job-3"], ["job-1"]]
    assert await pages(prepared, ["failed", "pending"], 10) == [["job-2", "job-0"]]


async def test_the_list_tells_name_type_and_time_of_creation(prepared: Prepared) -> None:
    prepared.add_job(running("job-1", disks=(Disk(disk_index=0),)), 1_760_000_000)
    view = (await prepared.database.run(lambda session: session.jobs([], 10, None))).jobs[0]
    assert (view.vm_name, view.backup_type, view.created_at, view.job.disks) == ("vm", "full", 1_760_000_000, ())


async def test_a_foreign_cursor_is_a_value_error_and_harms_nothing(prepared: Prepared) -> None:
    with pytest.raises(ValueError, match="cannot use the cursor"):
        await prepared.database.run(lambda session: session.jobs([], 10, "foreign"))
    assert await prepared.database.run(lambda session: session.counts()) == {"pending": 0, "running": 0}


@pytest.mark.parametrize(
    "text", ["", "x", "!!!", "W10", "bnVsbA", "WzEsMl0", "WyJ4IiwieCJd", "\ud800", "ä", "Wy0xLCJhIl0", "A" * 10_000]
)
def test_only_what_the_hub_gave_out_is_a_cursor(text: str) -> None:
    with pytest.raises(ValueError, match="cannot use the cursor"):
        cursor.place(text)


@pytest.mark.parametrize("place", [cursor.Place(1_760_000_000, "job-ä 1"), cursor.Place(None, "")])
def test_a_cursor_leads_back_to_its_place(place: cursor.Place) -> None:
    assert cursor.place(cursor.text(place)) == place


async def test_only_unfinished_jobs_are_counted(prepared: Prepared) -> None:
    for n, status in enumerate(["pending", "running", "failed", "running"]):
        prepared.add_job(Job(job_id=f"job-{n}", status=status))  # type: ignore[arg-type]
    assert await prepared.database.run(lambda session: session.counts()) == {"pending": 1, "running": 2}


async def test_an_error_in_the_work_undoes_all_of_it(prepared: Prepared) -> None:
    prepared.add_job(running("job-1", disks=(Disk(disk_index=0),)))
    before = await stored(prepared)

    def work(session: Session) -> None:
        session.write_jobs([FULL])
        session.add_history([sample(1, 1_760_000_000, 1)])
        disks_written(Disk(disk_index=0, bytes_transferred=9), Disk(disk_index=1))(session)
        session.advance_listening(10)
        raise KeyError("a fault in the work")

    with pytest.raises(KeyError):
        await prepared.database.run(work)
    assert await stored(prepared) == before
    assert prepared.history("job-1") == []
    assert await prepared.database.run(lambda session: session.listening_us()) == 0


async def test_after_closing_the_database_is_away(prepared: Prepared) -> None:
    await prepared.database.close()
    await prepared.database.close()
    with pytest.raises(DatabaseAway):
        await prepared.database.run(lambda session: session.counts())
