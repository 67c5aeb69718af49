"""What the hub promises about rows, times and its journal, over real HTTP on a real MariaDB."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from sha_daemon.config import DatabaseSettings, HubSettings, Listen
from testbed.mariadb import PrivateMariaDB
from tests.support.hub import running_hub
from tests.support.world import PATH, World
from tests.test_http_api import GOLDEN, is_problem

pytestmark = pytest.mark.integration

THREE_DAYS = 3 * 86_400


@pytest.fixture
async def world(mariadb_server: PrivateMariaDB, migrated_database: DatabaseSettings) -> AsyncIterator[World]:
    settings = HubSettings(listen=Listen(max_queue=2), database=migrated_database)
    async with running_hub(settings) as (hub, client):
        yield World(hub, client, mariadb_server, migrated_database.name)


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_an_end_that_waited_three_days_in_an_outbox_is_dated_when_it_happened(world: World, end: str) -> None:
    world.add("j1", disks=1)
    truth = time.time() - THREE_DAYS
    says = {"status": end, "seq": 7, "age_seconds": THREE_DAYS, "timestamp": "1999-01-01T00:00:00Z"}
    assert (await world.post("j1", says))[0] == 204
    ended, heard = world.stored(
        "j1", "UNIX_TIMESTAMP(completed_at), TIMESTAMPDIFF(SECOND, last_telemetry_at, UTC_TIMESTAMP())"
    )
    assert abs(ended - truth) <= 5
    assert 0 <= heard <= 5
    ((sampled, said),) = world.sql(
        "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', at), producer_time FROM telemetry_history"
    )
    assert abs(sampled / 1e6 - truth) <= 5
    assert said == "1999-01-01T00:00:00+00:00"
    ((disk_ended,),) = world.sql("SELECT UNIX_TIMESTAMP(completed_at) FROM backup_disks")
    assert abs(disk_ended - truth) <= 5


async def test_a_start_that_waited_is_dated_when_it_happened_too(world: World) -> None:
    world.add("j1", "pending")
    await world.post("j1", {"status": "running", "age_seconds": 3600.5})
    assert abs(world.stored("j1", "UNIX_TIMESTAMP(started_at)")[0] - (time.time() - 3600.5)) <= 5


async def test_times_are_utc_whatever_the_zone_of_the_server(world: World, migrated_database: DatabaseSettings) -> None:
    """A zone with daylight saving would make every job look an hour silent twice a year."""
    world.sql("SET GLOBAL time_zone = '+05:30'")
    try:
        async with running_hub(HubSettings(database=migrated_database)) as (_, client):
            world.add("j1")
            async with client.post(f"{PATH}/j1", json={"status": "completed"}) as answer:
                assert answer.status == 204
            async with client.get(f"{PATH}/j1") as answer:
                job = await answer.json()
        heard, ended = world.stored(
            "j1", "TIMESTAMPDIFF(SECOND, last_telemetry_at, UTC_TIMESTAMP()), UNIX_TIMESTAMP(completed_at)"
        )
    finally:
        world.sql("SET GLOBAL time_zone = 'SYSTEM'")
    assert 0 <= heard <= 5
    assert abs(ended - time.time()) <= 5
    assert job["seconds_since_heard"] <= 5
    assert job["created_at"][:13] == time.strftime("%Y-%m-%dT%H", time.gmtime(ended))


async def test_every_figure_is_stored_up_to_its_limit(world: World) -> None:
    world.add("j1", disks=2)
    most = 2**63 - 1
    status, headers, _ = await world.post("j1", (GOLDEN / "accepted" / "limits.json").read_bytes())
    assert (status, headers["Telemetry-Seq"]) == (204, str(2**62))
    figures = "bytes_transferred, total_bytes, transfer_speed_bps, eta_seconds, progress_percent"
    assert world.stored("j1", figures) == (most, most, most, 2**31 - 1, 100)
    assert world.stored("j1", "current_phase, telemetry_seq, telemetry_idle_seconds") == ("ä" * 50, 2**62, 2**31 - 1)
    disks = world.sql(
        "SELECT disk_index, bytes_transferred, total_bytes, progress_percent FROM backup_disks ORDER BY 1"
    )
    assert disks == [(0, most, most, 100), (1, 0, 0, 0), (65535, most, 0, 0)]
    assert (await world.post("j1", {"status": "completed"}))[0] == 204
    assert world.stored("j1", "status, bytes_transferred") == ("completed", most)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
async def test_json_is_json_however_its_type_is_written(world: World, kind: str) -> None:
    world.add("j1")
    async with world.client.post(f"{PATH}/j1", data=b'{"status":"running"}', headers={"Content-Type": kind}) as answer:
        assert answer.status == 204


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_what_a_web_page_may_post_without_asking_is_refused(world: World, kind: str) -> None:
    world.add("j1")
    async with world.client.post(f"{PATH}/j1", data=b'{"status":"running"}', headers={"Content-Type": kind}) as answer:
        assert answer.status == 415
        assert is_problem(415, dict(answer.headers), await answer.json(content_type=None))


async def test_a_mebibyte_is_taken(world: World) -> None:
    world.add("j1")
    body = b'{"status":"running","bytes_transferred":5,"x":"' + b"a" * ((1 << 20) - 49) + b'"}'
    assert len(body) == 1 << 20
    assert (await world.post("j1", body))[0] == 204
    assert world.stored("j1", "bytes_transferred") == (5,)


async def test_a_hub_that_stops_asks_to_try_again(world: World) -> None:
    world.add("j1")
    world.hub.accepting(False)
    status, headers, content = await world.post("j1", {"status": "running"})
    assert is_problem(status, headers, content)
    assert (status, headers["Retry-After"], content["detail"]) == (503, "5", "the hub is stopping; try again")


async def test_a_full_queue_asks_to_try_again_and_loses_nobody_it_took(world: World) -> None:
    jobs = [world.add(f"j{n}") for n in range(8)]
    with world.transaction("SELECT * FROM backup_jobs WHERE id = 'j0' FOR UPDATE"):
        posts = [asyncio.ensure_future(world.post("j0", {"status": "running"}))]
        waits = "SELECT 1 FROM information_schema.processlist WHERE command = 'Query' AND id <> CONNECTION_ID()"
        while not world.sql(waits):
            await asyncio.sleep(0.005)
        posts += [
            asyncio.ensure_future(world.post(job, {"status": "running", "bytes_transferred": 1})) for job in jobs[1:]
        ]
        await asyncio.wait(posts[1:], return_when=asyncio.FIRST_COMPLETED)
    answers = dict(zip(jobs, await asyncio.gather(*posts), strict=True))
    refused = {job: answer for job, answer in answers.items() if answer[0] == 503}
    assert 0 < len(refused) < 7
    assert all(is_problem(*answer) and answer[1]["Retry-After"] == "5" for answer in refused.values())
    taken = {row[0] for row in world.sql("SELECT id FROM backup_jobs WHERE bytes_transferred = 1")}
    assert taken == {job for job in jobs[1:] if answers[job][0] == 204}


async def test_what_concerns_an_ended_job_is_logged_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    world.add("j1", "cancelled")
    world.add("j2", "completed")
    for job in ("j1", "j1", "j2", "j1"):
        assert (await world.post(job, {"status": "running"}))[1]["Telemetry-Result"] == "final"
    said = [record.getMessage() for record in caplog.records if "has ended" in record.getMessage()]
    assert [line.partition("job=")[2] for line in said] == ["j1 status=cancelled", "j2 status=completed"]


async def test_a_disk_that_gets_no_row_is_logged_once_and_the_job_is_stored(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.sql("ALTER TABLE backup_disks MODIFY vm_backup_context_id VARCHAR(64) NOT NULL")
    world.add("j1")
    for moved in (5, 6):
        disks = [{"disk_index": index, "bytes_transferred": moved} for index in (0, 1)]
        assert (await world.post("j1", {"status": "running", "bytes_transferred": 2 * moved, "disks": disks}))[0] == 204
    assert world.stored("j1", "bytes_transferred") == (12,)
    said = [record.getMessage() for record in caplog.records if "could not get one" in record.getMessage()]
    assert len(said) == 1


async def test_a_job_and_its_disks_change_in_one_transaction(world: World) -> None:
    world.add("j1", disks=1)
    world.sql(
        "CREATE TRIGGER poison BEFORE UPDATE ON backup_disks FOR EACH ROW"
        " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'"
    )
    says = {"status": "running", "bytes_transferred": 7, "disks": [{"disk_index": 0, "bytes_transferred": 7}], "seq": 1}
    assert (await world.post("j1", says))[0] == 500
    assert world.stored("j1", "bytes_transferred, telemetry_seq") == (0, None)
    assert world.sql("SELECT COUNT(*) FROM telemetry_history") == [(0,)]


async def test_a_sender_that_lost_its_numbers_learns_the_stored_one_and_goes_on_above_it(world: World) -> None:
    world.add("j1")
    await world.post("j1", {"status": "running", "bytes_transferred": 5, "seq": 1_760_106_225_000_001})
    _, headers, _ = await world.post("j1", {"status": "completed", "bytes_transferred": 9, "seq": 3})
    assert headers["Telemetry-Result"] == "stale"
    above = int(headers["Telemetry-Seq"]) + 1
    _, headers, _ = await world.post("j1", {"status": "completed", "bytes_transferred": 9, "seq": above})
    assert (headers.get("Telemetry-Result"), headers["Telemetry-Status"]) == (None, "completed")
    assert world.sql("SELECT seq FROM telemetry_history ORDER BY seq") == [(3,), (above - 1,), (above,)]


async def test_idle_time_is_stored_and_cleared_by_the_next_message_without_it(world: World) -> None:
    world.add("j1")
    await world.post("j1", {"status": "running", "idle_seconds": 61.9})
    assert world.stored("j1", "telemetry_idle_seconds") == (61,)
    await world.post("j1", {"status": "running"})
    assert world.stored("j1", "telemetry_idle_seconds") == (None,)
