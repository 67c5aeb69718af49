"""The HTTP contract on a real MariaDB: every answer, and what it promises about the database."""

import asyncio
import gzip
import io
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from msgspec import structs

from sha_daemon.config import DatabaseSettings, HubSettings
from sha_daemon.database import SchemaMissing
from telemetry_common.contract import MAX_BODY_BYTES
from tests.support.hub import running_hub
from tests.support.world import PATH, World

pytestmark = pytest.mark.integration

GOLDEN = Path(__file__).parent / "golden" / "messages"


def is_problem(status: int, headers: dict[str, str], content: Any) -> bool:
    return (
        headers["Content-Type"].startswith("application/problem+json")
        and content["status"] == status
        and set(content) == {"type", "title", "status", "detail"}
    )


async def test_204_means_committed(world: World) -> None:
    world.add("j1")
    status, headers, body = await world.post("j1", {"status": "running", "bytes_transferred": 5, "seq": 3})
    assert (status, body) == (204, b"")
    assert (headers["Telemetry-Seq"], headers["Telemetry-Status"]) == ("3", "running")
    assert "Telemetry-Result" not in headers
    assert world.stored("j1", "bytes_transferred, telemetry_seq") == (5, 3)


async def test_a_whole_backup_of_a_sender_in_the_field_ends_with_the_sum_over_its_disks(world: World) -> None:
    world.add("backup-pgtest1-1728518400", "pending", disks=2)
    for name in ("field-running-with-zeros", "example-full", "field-completed-with-zeros"):
        body = (GOLDEN / "accepted" / f"{name}.json").read_bytes()
        assert (await world.post("backup-pgtest1-1728518400", body))[0] == 204
    job = world.stored("backup-pgtest1-1728518400", "status, bytes_transferred, progress_percent, current_phase")
    assert job == ("completed", 45678901234, 100, "completed")
    assert {row[0] for row in world.sql("SELECT status FROM backup_disks")} == {"completed"}


async def test_an_error_beside_running_fails_the_job_with_its_text(world: World) -> None:
    world.add("backup-pgtest1-1728518400")
    await world.post(
        "backup-pgtest1-1728518400", (GOLDEN / "accepted" / "field-error-beside-running.json").read_bytes()
    )
    stored = world.stored("backup-pgtest1-1728518400", "status, error_message")
    assert stored == ("failed", "qemu-nbd: connection reset [NBD_IO]")


@pytest.mark.parametrize("path", sorted((GOLDEN / "refused").glob("*.txt")), ids=lambda path: path.stem)
async def test_a_bad_message_is_a_400_that_names_what_is_wrong(world: World, path: Path) -> None:
    world.add("j1")
    fragment, body = path.read_bytes().split(b"\n", 1)
    status, headers, content = await world.post("j1", body)
    assert status == 400
    assert is_problem(400, headers, content)
    assert fragment.decode() in content["detail"]


async def test_a_refused_message_still_counts_as_hearing_the_job(world: World) -> None:
    world.add("j1")
    assert (await world.post("j1", b"{}"))[0] == 400
    await world.post("j1", {"status": "nonsense"})
    async with asyncio.timeout(5):
        while world.stored("j1", "last_telemetry_at")[0] is None:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("job_id", ["unknown", "J1", "j1%20", "%C4%B51", "x" * 65, "%00", "%ED%A0%80", "a%2Fb", "'"])
async def test_ids_are_compared_exactly(world: World, job_id: str) -> None:
    world.add("j1")
    status, headers, content = await world.post(job_id, {"status": "running"})
    assert status == 404
    assert is_problem(404, headers, content)


@pytest.mark.parametrize(
    ("path", "fragment", "status"),
    [
        ("/api/v1/telemetry/replication/j1", "unknown job type 'replication'; this hub knows: backup", 404),
        ("/api/v1/telemetry/backup/", "the path has no job_id", 400),
        ("/api/v1/telemetry/backup", "the path has no job_id", 400),
        ("/api/v1/nothing", "no such resource", 404),
        ("/api/v1/a/b%0Ac", "no such resource", 404),
        ("/api/v1/health", "does not take that method", 405),
    ],
)
async def test_a_wrong_path_says_so(world: World, path: str, fragment: str, status: int) -> None:
    async with world.client.post(path, json={"status": "running"}) as answer:
        assert answer.status == status
        assert fragment in (await answer.json(content_type=None))["detail"]


async def test_only_json_is_taken_and_at_most_a_mebibyte_of_it(world: World) -> None:
    world.add("j1")
    async with world.client.post(f"{PATH}/j1", data=b'{"status":"running"}') as answer:
        assert answer.status == 415
    status, headers, content = await world.post("j1", b'{"status":"running","x":"' + b"a" * (1 << 20) + b'"}')
    assert status == 413
    assert is_problem(413, headers, content)


@pytest.mark.parametrize("field", [{"job_id": "j2"}, {"job_type": "restore"}])
async def test_a_body_that_contradicts_its_path_is_refused(world: World, field: dict[str, str]) -> None:
    world.add("j1")
    status, _, content = await world.post("j1", {"status": "running"} | field)
    assert status == 400
    assert next(iter(field)) in content["detail"]


@pytest.mark.parametrize(("seq", "result"), [(5, "duplicate"), (4, "stale")])
async def test_what_is_not_newer_changes_nothing_and_says_why(world: World, seq: int, result: str) -> None:
    world.add("j1")
    await world.post("j1", {"status": "running", "bytes_transferred": 5, "seq": 5})
    status, headers, _ = await world.post("j1", {"status": "completed", "bytes_transferred": 9, "seq": seq})
    assert (status, headers["Telemetry-Result"], headers["Telemetry-Seq"]) == (204, result, "5")
    assert world.stored("j1", "status, bytes_transferred") == ("running", 5)


async def test_a_job_cancelled_in_the_gui_tells_its_sender(world: World) -> None:
    world.add("j1", "cancelled")
    status, headers, _ = await world.post("j1", {"status": "running", "seq": 1})
    assert (status, headers["Telemetry-Result"], headers["Telemetry-Status"]) == (204, "final", "cancelled")
    assert headers["Telemetry-Seq"] == "0"


async def test_updates_that_wait_together_are_committed_together(world: World) -> None:
    world.sql(
        "INSERT INTO backup_jobs (id, vm_name, backup_type, status)"
        " SELECT CONCAT('j', seq), 'pg', 'full', 'running' FROM seq_1_to_200"
    )
    jobs = [f"j{n}" for n in range(1, 201)]
    commits = "SHOW GLOBAL STATUS LIKE 'Com_commit'"
    before = int(world.sql(commits)[0][1])
    answers = await asyncio.gather(*(world.post(job, {"status": "running", "bytes_transferred": 1}) for job in jobs))
    assert {status for status, _, _ in answers} == {204}
    assert int(world.sql(commits)[0][1]) - before < 100
    assert world.sql("SELECT COUNT(*) FROM backup_jobs WHERE bytes_transferred = 1") == [(200,)]


async def test_many_updates_of_one_job_at_once_leave_the_greatest(world: World) -> None:
    world.add("j1")
    await asyncio.gather(*(world.post("j1", {"status": "running", "bytes_transferred": n}) for n in range(100)))
    assert world.stored("j1", "bytes_transferred") == (99,)


async def test_a_row_the_database_refuses_is_told_to_its_own_sender_only(world: World) -> None:
    jobs = [world.add(f"j{n}") for n in range(20)]
    world.sql(
        "CREATE TRIGGER poison BEFORE UPDATE ON backup_jobs FOR EACH ROW"
        " IF NEW.id = 'j7' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'secret of the table'; END IF"
    )
    answers = await asyncio.gather(*(world.post(job, {"status": "running", "bytes_transferred": 3}) for job in jobs))
    assert [status for status, _, _ in answers] == [500 if job == "j7" else 204 for job in jobs]
    assert "secret" not in str(answers)
    assert world.sql("SELECT COUNT(*) FROM backup_jobs WHERE bytes_transferred = 3") == [(19,)]


async def test_a_sender_that_hangs_up_loses_only_its_answer(world: World) -> None:
    world.add("j1")
    _, writer = await asyncio.open_connection(world.client.host, world.client.port)
    body = b'{"status":"running","bytes_transferred":77}'
    head = f"POST {PATH}/j1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    writer.transport.abort()
    async with asyncio.timeout(5):
        while world.stored("j1", "bytes_transferred") == (0,):
            await asyncio.sleep(0.01)
    assert world.stored("j1", "bytes_transferred") == (77,)


async def test_readers_get_a_job_with_its_disks_and_how_it_is_heard(world: World) -> None:
    world.add("j1", "pending", disks=1)
    await world.post(
        "j1", {"status": "running", "disks": [{"disk_index": 0, "bytes_transferred": 4, "total_bytes": 8}]}
    )
    status, job = await world.get(f"{PATH}/j1")
    assert (status, job["status"], job["vm_name"], job["silent"], job["never_heard"]) == (
        200,
        "running",
        "pg",
        False,
        False,
    )
    assert job["seconds_since_heard"] <= 2
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", job["last_telemetry_at"])
    assert job["disks"][0] == {
        "disk_index": 0,
        "status": "pending",
        "bytes_transferred": 4,
        "total_bytes": 8,
        "progress_percent": 0.0,
        "completed_at": None,
    }


async def test_the_list_is_paged_by_cursor_and_filtered_by_status(world: World) -> None:
    for n in range(5):
        world.add(f"j{n}", "running" if n % 2 else "completed")
    seen: list[str] = []
    path = f"{PATH}?limit=2"
    while path:
        status, page = await world.get(path)
        assert status == 200
        seen += [job["job_id"] for job in page["jobs"]]
        path = f"{PATH}?limit=2&cursor={page['next_cursor']}" if page["next_cursor"] else ""
    assert sorted(seen) == ["j0", "j1", "j2", "j3", "j4"]
    _, running = await world.get(f"{PATH}?status=running")
    assert {job["job_id"] for job in running["jobs"]} == {"j1", "j3"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=paused", "status"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
    ],
)
async def test_a_bad_query_is_a_400_that_names_the_parameter(world: World, query: str, field: str) -> None:
    status, content = await world.get(f"{PATH}?{query}")
    assert status == 400
    assert f"`{field}`" in content["detail"]


async def test_a_body_that_is_not_in_its_encoding_is_a_400(world: World) -> None:
    world.add("j1")
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with world.client.post(f"{PATH}/j1", data=b"xx", headers=headers) as answer:
        assert answer.status == 400
        assert "gzip" in (await answer.json(content_type=None))["detail"]


async def test_a_status_of_another_programs_making_spoils_neither_the_list_nor_the_hub(world: World) -> None:
    world.sql(
        "ALTER TABLE backup_jobs MODIFY status ENUM('pending','running','completed','failed','cancelled','paused')"
    )
    world.add("j1", "paused")
    world.add("j2")
    status, page = await world.get(PATH)
    assert (status, len(page["jobs"])) == (200, 2)
    assert (await world.post("j1", {"status": "running"}))[1]["Telemetry-Result"] == "final"
    assert world.stored("j1", "status") == ("paused",)


async def test_a_row_held_by_another_program_delays_only_its_own_sender(world: World) -> None:
    for n in range(4):
        world.add(f"j{n}")
    with world.transaction("SELECT * FROM backup_jobs WHERE id = 'j2' FOR UPDATE"):
        for _ in range(3):
            posts = (world.post(f"j{n}", {"status": "running", "bytes_transferred": 1}) for n in range(4))
            answers = await asyncio.gather(*posts)
            assert [status for status, _, _ in answers] == [204, 204, 500, 204]
    assert (await world.post("j2", {"status": "running"}))[0] == 204


async def test_rows_held_by_another_program_cost_one_wait_and_not_one_each_time(world: World) -> None:
    for n in range(20):
        world.add(f"j{n}", disks=1)
    jobs = "SELECT * FROM backup_jobs WHERE id IN ('j1', 'j2') FOR UPDATE"
    disks = "SELECT * FROM backup_disks WHERE backup_job_id = 'j3' FOR UPDATE"
    with world.transaction(jobs), world.transaction(disks):
        waits = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_waits'"
        before = int(world.sql(waits)[0][1])
        for _ in range(5):
            posts = (world.post(f"j{n}", {"status": "running", "bytes_transferred": 1}) for n in range(20))
            answers = await asyncio.gather(*posts)
            assert [status for status, _, _ in answers] == [204, 500, 500, 500, *[204] * 16]
        assert int(world.sql(waits)[0][1]) - before <= 2
    assert [(await world.post(f"j{n}", {"status": "running"}))[0] for n in (1, 2, 3)] == [204] * 3


@pytest.mark.parametrize("job_id", ["{x}", "a}b{", "50%", "a b", "ü"])
async def test_whatever_a_row_can_be_called_can_be_reported_and_read(world: World, job_id: str) -> None:
    world.add(job_id)
    path = quote(job_id, safe="")
    assert (await world.post(path, {"status": "running", "bytes_transferred": 5}))[0] == 204
    assert (await world.get(f"{PATH}/{path}"))[1]["bytes_transferred"] == 5
    assert (await world.get(f"{PATH}/{path}/history"))[0] == 200


@pytest.mark.parametrize(
    ("status", "encoding", "body"),
    [
        (413, "identity", b" " * (MAX_BODY_BYTES + 1)),
        (413, "gzip", gzip.compress(b" " * (MAX_BODY_BYTES + 1))),
        (415, "br", b"{}"),
    ],
)
async def test_a_job_is_heard_also_by_what_is_too_large_or_encoded_otherwise(
    world: World, status: int, encoding: str, body: bytes
) -> None:
    world.add("j1")
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    async with world.client.post(f"{PATH}/j1", data=io.BytesIO(body), headers=headers) as answer:
        assert answer.status == status
    async with asyncio.timeout(5):
        while world.stored("j1", "last_telemetry_at")[0] is None:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("body", [b"{}", b" " * (MAX_BODY_BYTES + 1)])
async def test_what_a_web_page_can_send_keeps_no_job_alive(world: World, body: bytes) -> None:
    world.add("j1")
    async with world.client.post(f"{PATH}/j1", data=io.BytesIO(body), headers={"Content-Type": "text/plain"}) as answer:
        assert answer.status in (413, 415)
    world.add("j2")
    assert (await world.post("j2", {"status": "running"}))[0] == 204
    assert world.stored("j1", "last_telemetry_at")[0] is None


async def test_a_message_that_is_heard_and_refused_needs_no_listening_clock(world: World) -> None:
    world.add("j1")
    with world.transaction("SELECT * FROM telemetry_listening FOR UPDATE"):
        assert (await world.post("j1", b"{}"))[0] == 400
        async with asyncio.timeout(5):
            while world.stored("j1", "last_telemetry_at")[0] is None:
                await asyncio.sleep(0.01)


async def test_an_index_that_is_dropped_under_the_watchdog_is_told_and_no_update_is_taken_meanwhile(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Every part has a connection of its own, and only the sweep asks by this index."""
    caplog.set_level("INFO")
    world.add("j1")
    watchdog, lost = world.hub.parts["backup"].watchdog, "index idx_telemetry_silence of backup_jobs is missing"
    assert (await world.post("j1", {"status": "running"}))[0] == 204
    await watchdog.sweep()
    world.sql("DROP INDEX idx_telemetry_silence ON backup_jobs")
    with pytest.raises(SchemaMissing):
        await watchdog.sweep()
    await world.hub.health.look()
    status, report = await world.get("/api/v1/health")
    assert (status, report["database"].partition(": ")[2]) == (
        503,
        f"cannot use the tables: {lost}; run `shactl db migrate`",
    )
    assert (await world.post("j1", {"status": "running"}))[0] == 503
    world.sql("CREATE INDEX idx_telemetry_silence ON backup_jobs (status, telemetry_heard_us)")
    await watchdog.sweep()
    async with asyncio.timeout(5):
        while (await world.post("j1", {"status": "running"}))[0] != 204:
            await asyncio.sleep(0.05)


async def test_a_server_that_may_lose_commits_is_degraded_but_used(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world.add("j1")
    world.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    try:
        await world.hub.health.look()
        status, report = await world.get("/api/v1/health")
        assert (status, report["status"]) == (200, "degraded")
        assert "innodb_flush_log_at_trx_commit" in world.hub.status()
        assert (await world.post("j1", {"status": "running"}))[0] == 204
    finally:
        world.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    await world.hub.health.look()
    assert (await world.get("/api/v1/health"))[1]["status"] == "ok"
    assert caplog.text.count("database may lose what was acknowledged") == 1
    assert caplog.text.count("database keeps what is acknowledged") == 1


async def test_health_is_ok_with_a_migrated_database(world: World) -> None:
    status, report = await world.get("/api/v1/health")
    assert (status, report["status"], report["database"]) == (200, "ok", "ok")


async def test_a_database_of_another_name_is_missing_and_not_called_unmigrated(
    empty_database: DatabaseSettings,
) -> None:
    elsewhere = structs.replace(empty_database, name="no_such_database")
    async with running_hub(HubSettings(database=elsewhere)) as (hub, client):
        assert hub.health.database_state == "missing"
        for words in ("'no_such_database'", "is `database.name` right?", "`shactl db setup`, then `shactl db migrate`"):
            assert words in hub.status()
        async with client.get("/api/v1/health") as answer:
            assert (answer.status, "missing since" in (await answer.json())["database"]) == (503, True)


async def test_without_its_tables_the_hub_is_up_but_degraded_and_heals_by_itself(
    empty_database: DatabaseSettings,
) -> None:
    async with running_hub(HubSettings(database=empty_database)) as (hub, client):
        async with client.get("/api/v1/health") as answer:
            assert answer.status == 503
        async with client.post(f"{PATH}/j1", json={"status": "running"}) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert "shactl db migrate" in hub.status()
