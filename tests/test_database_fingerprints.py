"""What other programs change is found by fingerprints: one suite for MariaDB and the in-memory twin."""

from functools import partial

import pytest
from msgspec import structs

from sha_daemon import migrations
from sha_daemon.config import DatabaseSettings
from sha_daemon.database import Session
from sha_daemon.fingerprint import Fingerprint, Question, fingerprint
from sha_daemon.job_types import BACKUP
from sha_daemon.mariadb import MariaDB, connect
from sha_daemon.records import Disk, Job, JobView
from tests.support.databases import Prepared, running, stored, write
from tests.support.live_hub import LIVE_HUB
from tests.test_database import FULL, disks_written

ALL = Question(limit=1000, made_within_seconds=0)
LONG_AGO = 1_700_000_000
DISK = Disk(disk_index=0, status="running", bytes_transferred=2**63 - 1, total_bytes=7, progress_percent=99.99)


def _view(job_id: str, session: Session) -> JobView | None:
    return session.job(job_id)


async def asked(prepared: Prepared, question: Question = ALL) -> dict[str, Fingerprint]:
    return await prepared.database.run(lambda session: session.fingerprints(question))


FULL_LIVE = structs.replace(FULL, status="running")
JOBS = {
    "empty": Job(job_id="job-1", status="pending"),
    "filled to its limits": FULL_LIVE,
    "with fractions of seconds": running("job-1", started_at=1_760_000_000.9, completed_at=1_760_000_000.2),
    "strange text": structs.replace(FULL_LIVE, error_message="a'b\"c\\d\0\n😀ä", current_phase=""),
    **{f"{percent} percent": running("job-1", progress_percent=percent) for percent in (0.01, 0.57, 29.35, 99.99)},
}


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
async def test_the_database_and_the_hub_take_the_same_fingerprint_of_what_the_hub_wrote(
    prepared: Prepared, job: Job
) -> None:
    prepared.add_job(running("job-1", disks=(Disk(disk_index=0), Disk(disk_index=1))), created_at=LONG_AGO)
    await prepared.database.run(write(job))
    await prepared.database.run(disks_written(DISK, Disk(disk_index=1, status="completed", completed_at=1_760_000_000)))
    expected = fingerprint(BACKUP, structs.replace(job, disks=(await stored(prepared)).disks))
    assert await asked(prepared) == {"job-1": expected}


FIELDS = structs.asdict(FULL_LIVE)
UNSEEN = {"job_id", "disks", "context_id", "watchdog_failed_at", "watchdog_message", "last_telemetry_at"}
"""No part of a fingerprint: the time of hearing goes with `heard_us`, the watchdog's mark with the status."""


@pytest.mark.parametrize("field", sorted(FIELDS.keys() - UNSEEN))
async def test_a_change_of_any_figure_changes_the_fingerprint(prepared: Prepared, field: str) -> None:
    prepared.add_job(running("job-1"), created_at=LONG_AGO)
    await prepared.database.run(write(running("job-1")))
    before = (await asked(prepared))["job-1"]
    other = "pending" if field == "status" else FIELDS[field]
    await prepared.database.run(write(running("job-1", **{field: other})))
    assert (await asked(prepared))["job-1"].differs(before)


async def test_a_change_of_a_disk_alone_changes_the_fingerprint(prepared: Prepared) -> None:
    prepared.add_job(running("job-1", disks=(Disk(disk_index=0), Disk(disk_index=1))), created_at=LONG_AGO)
    seen = {(await asked(prepared))["job-1"]}
    for disk in (DISK, structs.replace(DISK, disk_index=1), structs.replace(DISK, progress_percent=100.0)):
        await prepared.database.run(disks_written(disk))
        seen.add((await asked(prepared))["job-1"])
    assert len(seen) == 4
    assert len({taken.row for taken in seen}) == 1


async def test_the_ended_are_told_only_if_they_were_made_lately(prepared: Prepared) -> None:
    for name, made in (("old-live", LONG_AGO), ("old-ended", LONG_AGO), ("new-ended", None)):
        prepared.add_job(Job(job_id=name, status="pending"), created_at=made)
    for name in ("old-ended", "new-ended"):
        await prepared.database.run(write(Job(job_id=name, status="completed")))
    assert set(await asked(prepared, Question(limit=9, made_within_seconds=60))) == {"old-live", "new-ended"}
    assert set(await asked(prepared)) - {"new-ended"} == {"old-live"}


async def test_no_more_are_told_than_were_asked_for(prepared: Prepared) -> None:
    for n in range(5):
        prepared.add_job(Job(job_id=f"p{n}", status="pending"), created_at=LONG_AGO)
        prepared.add_job(running(f"r{n}"), created_at=LONG_AGO)
    found = await asked(prepared, Question(limit=2, made_within_seconds=0))
    assert sorted(name[0] for name in found) == ["p", "p", "r", "r"]


async def test_each_share_of_the_disks_is_looked_at_in_its_turn(prepared: Prepared) -> None:
    for n in range(40):
        prepared.add_job(running(f"job-{n}", disks=(Disk(disk_index=0),)), created_at=LONG_AGO)
    parts = [await asked(prepared, Question(limit=99, made_within_seconds=0, share=n, shares=3)) for n in range(3)]
    shares = [{name for name, taken in part.items() if taken.disks is not None} for part in parts]
    assert all(len(part) == 40 for part in parts)
    assert all(shares)
    assert sorted(name for share in shares for name in share) == sorted(f"job-{n}" for n in range(40))


@pytest.mark.parametrize("job_id", ["a'b\"c\\d", "line\nbreak", "😀 ä", "a,b]", "%s"])
async def test_ids_come_back_exactly(prepared: Prepared, job_id: str) -> None:
    prepared.add_job(running(job_id), created_at=LONG_AGO)
    assert set(await asked(prepared)) == {job_id}
    assert set(await prepared.database.run(lambda session: session.views([job_id]))) == {job_id}


async def test_many_jobs_are_read_at_once_as_each_alone(prepared: Prepared) -> None:
    for n in range(3):
        prepared.add_job(running(f"job-{n}", disks=(Disk(disk_index=1), Disk(disk_index=0))), created_at=LONG_AGO)
    views = await prepared.database.run(lambda session: session.views(["job-0", "job-2", "JOB-1", "nobody"]))
    alone = [await prepared.database.run(partial(_view, f"job-{n}")) for n in (0, 2)]
    assert [views[name] for name in sorted(views)] == alone
    assert await prepared.database.run(lambda session: session.views([])) == {}


@pytest.mark.integration
async def test_the_tables_of_an_appliance_may_have_two_collations(empty_database: DatabaseSettings) -> None:
    link = connect(empty_database, daemon=False)
    link.execute(f"USE `{empty_database.name}`")
    for statement in migrations.parse(LIVE_HUB.read_text("utf-8")):
        link.execute(statement.text)
    migrations.apply(link, empty_database.name, migrations.known())
    link.close()
    live = MariaDB(empty_database)
    found = await live.run(lambda session: session.fingerprints(Question(limit=1000, made_within_seconds=3600)))
    views = await live.run(lambda session: session.views(found))
    await live.close()
    # Of an id that differs in case the database counts the disk, where the hub does not: a look too many, no more.
    assert found.pop("finished-empty").differs(fingerprint(BACKUP, views.pop("finished-empty").job))
    assert found == {name: fingerprint(BACKUP, view.job) for name, view in views.items()}
    assert len(found) == 4
