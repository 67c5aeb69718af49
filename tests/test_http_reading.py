"""The reading side over HTTP, on a real MariaDB: what a GUI asks, and what it is told."""

import asyncio
import datetime
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from msgspec import structs

from sha_daemon.config import DatabaseSettings, HubSettings
from testbed.mariadb import PrivateMariaDB
from tests.support.hub import running_hub
from tests.support.slow_database import slow_database
from tests.support.world import PATH, World

pytestmark = pytest.mark.integration


async def test_the_list_can_be_searched_by_machine_within_a_status(world: World) -> None:
    for n, name in enumerate(["Web1", "web2", "db_1", "dbx1"]):
        world.add(f"j{n}", "running" if n % 2 else "failed")
        world.sql("UPDATE backup_jobs SET vm_name = %s WHERE id = %s", name, f"j{n}")
    for query, ids in (
        ("vm=WEB", {"j0", "j1"}),
        ("vm=web&status=running", {"j1"}),
        ("vm=b_", {"j2"}),
        ("vm=%25", set()),
    ):
        status, page = await world.get(f"{PATH}?{query}")
        assert (status, {job["job_id"] for job in page["jobs"]}, page["next_cursor"]) == (200, ids, None)


async def test_a_search_that_takes_long_keeps_no_other_reader_waiting(
    mariadb_server: PrivateMariaDB, migrated_database: DatabaseSettings, tmp_path: Path
) -> None:
    place = tmp_path / "slow.sock"
    settings = HubSettings(database=structs.replace(migrated_database, socket=str(place)))
    async with (
        slow_database(Path(migrated_database.socket), place) as slow,
        running_hub(settings) as (hub, client),
    ):
        world = World(hub, client, mariadb_server, migrated_database.name)
        world.add("j1")
        slow.make_endless(b"LIKE")
        searches = [asyncio.create_task(world.get(f"{PATH}?vm=web")) for _ in range(3)]
        await slow.met.wait()
        async with asyncio.timeout(5):
            assert (await world.get(f"{PATH}/j1"))[0] == 200
            assert (await world.get(PATH))[0] == 200
            assert (await world.get(f"{PATH}/j1/history"))[0] == 200
        slow.cut_off()
        assert [status for status, _ in await asyncio.gather(*searches)] == [503, 200, 200]


NOT_UNDERSTOOD = [
    ("vm_name=x", "unknown query parameter `vm_name`; this resource takes: status, vm, limit, cursor"),
    ("status=failed&status=running", "`status` is given twice"),
    ("vm=" + "x" * 256, "`vm` must be text of at most 255 characters"),
    ("limit=", "`limit` must be a whole number from 1 to 1000"),
    ("limit=" + "9" * 3000, "`limit` must be a whole number from 1 to 1000"),
    ("%1b[2J=1", "unknown query parameter `\\x1b[2J`; this resource takes: status, vm, limit, cursor"),
]


async def test_a_question_that_is_not_understood_is_never_answered_as_another(world: World) -> None:
    for query, detail in NOT_UNDERSTOOD:
        assert await world.get(f"{PATH}?{query}") == (
            400,
            {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": detail},
        )


async def test_a_job_takes_no_parameters(world: World) -> None:
    status, problem = await world.get(f"{PATH}/{world.add('j1')}?disks=no")
    assert (status, problem["detail"]) == (400, "unknown query parameter `disks`; this resource takes none")


async def test_no_text_in_the_search_box_does_harm(world: World) -> None:
    world.add("j1")
    for vm in ("'; DROP TABLE backup_jobs; --", "\\", "%", "_", "\0", "\ufffd", "😀", "漢", " "):
        assert (await world.get(f"{PATH}?vm={quote(vm)}"))[1]["jobs"] == [], vm
    for no_text in ("%ED%A0%80", "%FF", "%"):
        assert (await world.get(f"{PATH}?vm={no_text}"))[0] in (200, 400), no_text
    assert len((await world.get(PATH))[1]["jobs"]) == 1


async def test_the_history_of_a_job_is_what_was_reported_when_it_was_true(world: World) -> None:
    world.add("j1", "pending")
    for update in (
        {"status": "running", "current_phase": "snapshot", "seq": 1, "age_seconds": 60.5},
        {"status": "running", "current_phase": "transferring", "bytes_transferred": 5, "total_bytes": 8, "seq": 3},
        {"status": "running", "bytes_transferred": 4, "transfer_speed_bps": 7, "seq": 2, "age_seconds": 30},
        {"status": "completed", "seq": 4, "timestamp": "2025-10-10T14:23:45+02:00"},
    ):
        assert (await world.post("j1", update))[0] == 204
    status, history = await world.get(f"{PATH}/j1/history")
    assert (status, history["job_id"], history["job_type"], history["stored"]) == (200, "j1", "backup", 4)
    samples = history["samples"]
    assert [(s["seq"], s["status"], s["bytes_transferred"]) for s in samples] == [
        (1, "running", 0),
        (2, "running", 4),
        (3, "running", 5),
        (4, "completed", 5),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", s["at"]) for s in samples)
    first, last = (datetime.datetime.fromisoformat(s["at"]) for s in (samples[0], samples[2]))
    assert 60.4 < (last - first).total_seconds() < 90
    assert samples[3] == {
        "at": samples[3]["at"],
        "seq": 4,
        "status": "completed",
        "current_phase": "transferring",
        "bytes_transferred": 5,
        "total_bytes": 8,
        "transfer_speed_bps": 0,
        "progress_percent": 100.0,
        "producer_time": "2025-10-10T14:23:45+02:00",
    }


async def test_a_job_that_never_reported_has_an_empty_history(world: World) -> None:
    world.add("j1")
    assert await world.get(f"{PATH}/j1/history") == (
        200,
        {"job_id": "j1", "job_type": "backup", "stored": 0, "samples": []},
    )


async def test_a_chart_gets_at_most_as_many_points_as_it_asks_for(world: World) -> None:
    world.add("j1")
    world.sql(
        "INSERT INTO telemetry_history (job_id, seq, at, status, current_phase, bytes_transferred, total_bytes,"
        " transfer_speed_bps, progress_percent) SELECT 'j1', seq, '2025-10-10' + INTERVAL seq SECOND, 'running',"
        " 'transferring', seq, 3000, 1000 * RAND(seq), 1 FROM seq_1_to_3000"
    )
    for query, most in (("", 512), ("?points=512", 512), ("?points=2", 2), ("?points=100", 100)):
        status, history = await world.get(f"{PATH}/j1/history{query}")
        seqs = [s["seq"] for s in history["samples"]]
        assert (status, history["stored"], len(seqs), seqs[0], seqs[-1]) == (200, 3000, most, 1, 3000)
        assert seqs == sorted(seqs)


NO_HISTORY = [
    ("backup/J1/history", 404, "no backup job 'J1'"),
    ("backup/unknown/history", 404, "no backup job 'unknown'"),
    ("backup/%ED%A0%80/history", 404, "no backup job"),
    ("restore/j1/history", 404, "unknown job type 'restore'; this hub knows: backup"),
    ("backup/j1/history?points=1", 400, "`points` must be a whole number from 2 to 512"),
    ("backup/j1/history?points=513", 400, "`points` must be a whole number from 2 to 512"),
    ("backup/j1/history?since=0", 400, "unknown query parameter `since`; this resource takes: points"),
]


async def test_a_history_that_cannot_be_given_says_why(world: World) -> None:
    world.add("j1")
    for path, status, detail in NO_HISTORY:
        found, problem = await world.get(f"/api/v1/telemetry/{path}")
        assert (found, problem["status"], detail in problem["detail"]) == (status, status, True), path


async def test_without_a_database_readers_are_told_to_come_back(empty_database: DatabaseSettings) -> None:
    async with running_hub(HubSettings(database=empty_database)) as (_, client):
        for path in (PATH, f"{PATH}/j1", f"{PATH}/j1/history"):
            async with client.get(path) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


async def test_a_producer_that_lives_and_says_nothing_is_shown_idle_and_not_silent(world: World) -> None:
    for n, (idle_seconds, status, idle) in enumerate(
        [(None, "running", False), (60, "running", False), (61, "running", True), (900, "failed", False)]
    ):
        says = {"idle_seconds": idle_seconds} if idle_seconds is not None else {}
        await world.post(world.add(f"j{n}"), {"status": status} | says)
        _, listed = await world.get(PATH)
        _, shown = await world.get(f"{PATH}/j{n}")
        for job in (shown, next(job for job in listed["jobs"] if job["job_id"] == f"j{n}")):
            assert (job["idle"], job["silent"], job["stalled"], job["never_heard"]) == (idle, False, False, False)
            assert job["idle_seconds"] == idle_seconds


async def silent_for(world: World, job_id: str, seconds: int) -> None:
    """As if the hub had listened for so long since it heard the job."""
    world.sql(
        "UPDATE backup_jobs SET telemetry_heard_us = -%s * 1000000, last_telemetry_at = UTC_TIMESTAMP() - INTERVAL %s"
        " SECOND, telemetry_idle_seconds = 900 WHERE id = %s",
        *(seconds, seconds, job_id),
    )


async def test_a_job_that_is_not_heard_is_silent_whatever_it_said_last(world: World) -> None:
    await silent_for(world, world.add("j1"), 100)
    _, job = await world.get(f"{PATH}/j1")
    assert (job["silent"], job["idle"], job["stalled"]) == (True, False, False)
    assert 100 <= job["silence_seconds"] < 130
    assert 100 <= job["seconds_since_heard"] < 130


async def test_a_job_that_the_watchdog_failed_is_stalled_and_nothing_else(world: World) -> None:
    await silent_for(world, world.add("j1"), 400)
    await world.hub.parts["backup"].watchdog.sweep()
    _, job = await world.get(f"{PATH}/j1")
    flags = ("stalled", "silent", "idle", "never_heard")
    assert (job["status"], [job[flag] for flag in flags], job["silence_seconds"]) == (
        "failed",
        [True, *[False] * 3],
        None,
    )
    assert job["error_message"].startswith("Job stalled - no telemetry for 6m")


async def test_a_job_that_never_sent_telemetry_is_never_heard_and_not_silent(world: World) -> None:
    world.add("j1")
    world.sql("UPDATE backup_jobs SET telemetry_heard_us = -100000000")
    _, job = await world.get(f"{PATH}/j1")
    assert (job["never_heard"], job["silent"], job["silence_seconds"], job["seconds_since_heard"]) == (
        True,
        False,
        None,
        None,
    )
