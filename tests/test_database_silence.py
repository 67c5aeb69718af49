"""Hearing, the listening clock and the watchdog's verdict: one suite for both implementations of `Database`."""

import asyncio

import pytest
from msgspec import structs

from sha_daemon.records import Job
from tests.support.databases import Prepared, running, stored, write


async def test_hearing_touches_running_jobs_only_and_no_other_figure(prepared: Prepared) -> None:
    prepared.add_job(running("job-1"))
    prepared.add_job(Job(job_id="job-2", status="completed"))
    await prepared.database.run(lambda session: session.hear(["job-1", "job-2"], 1_760_000_000.9, 5))
    assert await stored(prepared) == running("job-1", last_telemetry_at=1_760_000_000, heard_us=5)
    assert await stored(prepared, "job-2") == Job(job_id="job-2", status="completed")


async def test_a_reading_of_the_listening_clock_never_falls(prepared: Prepared) -> None:
    prepared.add_job(running("job-1"))
    await prepared.database.run(lambda session: session.hear(["job-1"], 1_760_000_000, 50))
    await prepared.database.run(lambda session: session.hear(["job-1"], 1_760_000_001, 20))
    assert (await stored(prepared)).heard_us == 50


async def test_the_listening_clock_advances_by_no_more_than_the_hub_listened(prepared: Prepared) -> None:
    await asyncio.sleep(0.001)
    assert await prepared.database.run(lambda session: session.advance_listening(300)) == 300
    assert await prepared.database.run(lambda session: session.advance_listening(0)) == 300
    assert await prepared.database.run(lambda session: session.advance_listening(-5_000_000)) == 300
    assert await prepared.database.run(lambda session: session.listening_us()) == 300


async def test_the_listening_clock_advances_by_no_more_than_passed_in_the_database(prepared: Prepared) -> None:
    hour_us = 3_600_000_000
    assert 0 < await prepared.database.run(lambda session: session.advance_listening(hour_us)) < hour_us / 30


async def heard_at(prepared: Prepared, **readings: int) -> None:
    for job_id, heard_us in readings.items():
        prepared.add_job(running(job_id))
        await prepared.database.run(lambda s, j=job_id, us=heard_us: s.hear([j], 1_760_000_000, us))  # type: ignore[misc]


async def test_silent_jobs_come_longest_silence_first(prepared: Prepared) -> None:
    await heard_at(prepared, b=20, a=30, c=10, loud=100)
    prepared.add_job(running("unseen"))
    prepared.add_job(Job(job_id="done", status="completed", heard_us=1))
    silent = await prepared.database.run(lambda session: session.silent_jobs(100, 10))
    assert list(silent) == [("c", 10), ("b", 20), ("a", 30)]
    assert list(await prepared.database.run(lambda session: session.silent_jobs(100, 1))) == [("c", 10)]


async def test_never_heard_jobs_are_running_ones_without_any_telemetry(prepared: Prepared) -> None:
    await heard_at(prepared, heard=1)
    prepared.add_job(running("never", started_at=1_760_000_000.0))
    prepared.add_job(Job(job_id="pending", status="pending"))
    assert await prepared.database.run(lambda session: session.never_heard_jobs(10)) == ["never"]


async def fail(prepared: Prepared, job_id: str) -> bool:
    return await prepared.database.run(lambda s: s.fail_silent(job_id, 50, 1_760_000_300.5, "Job stalled " + "x" * 300))


async def test_the_verdict_marks_the_job_so_that_it_can_be_taken_back(prepared: Prepared) -> None:
    await heard_at(prepared, job=10)
    assert await fail(prepared, "job")
    job = await stored(prepared, "job")
    assert (job.status, job.completed_at, job.watchdog_failed_at) == ("failed", 1_760_000_300, 1_760_000_300)
    assert job.error_message == job.watchdog_message == ("Job stalled " + "x" * 300)[:255]


@pytest.mark.parametrize("change", [{"status": "completed"}, {"status": "cancelled"}, {"heard_us": 50}])
async def test_the_verdict_spares_a_job_that_ended_or_was_heard_meanwhile(
    prepared: Prepared, change: dict[str, object]
) -> None:
    await heard_at(prepared, job=10)
    meanwhile = structs.replace(await stored(prepared, "job"), **change)
    await prepared.database.run(write(meanwhile))
    assert not await fail(prepared, "job")
    assert await stored(prepared, "job") == meanwhile


async def test_a_job_never_heard_can_be_failed_once_it_was_seen_for_long_enough(prepared: Prepared) -> None:
    prepared.add_job(running("never"))
    assert not await fail(prepared, "never")
    await prepared.database.run(lambda session: session.see_unseen_jobs(10))
    assert await fail(prepared, "never")


async def test_seeing_gives_a_reading_to_running_jobs_that_have_none(prepared: Prepared) -> None:
    await heard_at(prepared, heard=7)
    prepared.add_job(running("unseen"))
    prepared.add_job(Job(job_id="pending", status="pending"))
    await prepared.database.run(lambda session: session.see_unseen_jobs(10))
    assert [(await stored(prepared, name)).heard_us for name in ("heard", "unseen", "pending")] == [7, 10, None]
    assert (await stored(prepared, "unseen")).last_telemetry_at is None


async def test_a_job_heard_for_the_first_time_meanwhile_is_spared(prepared: Prepared) -> None:
    await heard_at(prepared, job=60)
    assert not await fail(prepared, "job")
