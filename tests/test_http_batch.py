"""The batch endpoint on a real MariaDB: each item is answered as if it had come alone, and none spoils another."""

import asyncio
import io
import json
from typing import Any

import pytest

from sha_daemon import statements
from sha_daemon.app import WRITERS
from tests.support.world import World

pytestmark = pytest.mark.integration

PATH = "/api/v1/telemetry/batch"


async def post(world: World, body: object, kind: str = "application/json") -> tuple[int, Any]:
    data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
    async with world.client.post(PATH, data=data, headers={"Content-Type": kind}) as answer:
        return answer.status, await answer.json(content_type=None)


def running(job_id: str, **more: object) -> dict[str, object]:
    return {"job_id": job_id, "status": "running"} | more


async def test_each_item_is_answered_in_order_with_what_a_single_post_would_have_told(world: World) -> None:
    world.add("j1")
    world.add("j2", "cancelled")
    status, answers = await post(
        world,
        {
            "updates": [
                running("j1", seq=5, bytes_transferred=7),
                running("j1", seq=4),
                running("j2", seq=1),
                running("j1"),
                running("nobody", seq=1),
                {"job_id": "j1", "status": "nonsense"},
                {"status": "running"},
                running("j1", job_type="restore"),
                ["no object"],
            ]
        },
    )
    assert status == 200
    assert answers[:5] == [
        {"job_id": "j1", "status": 204, "seq": 5, "job_status": "running"},
        {"job_id": "j1", "status": 204, "result": "stale", "seq": 5, "job_status": "running"},
        {"job_id": "j2", "status": 204, "result": "final", "seq": 0, "job_status": "cancelled"},
        {"job_id": "j1", "status": 204},
        {"job_id": "nobody", "status": 404, "detail": "no backup job 'nobody'"},
    ]
    refused = [(answer["job_id"], answer["status"], answer["detail"]) for answer in answers[5:]]
    assert refused == [
        (
            *("j1", 400),
            "Invalid enum value 'nonsense' - at `$.status`; expected one of"
            " pending, running, completed, failed, cancelled",
        ),
        (None, 400, "Object missing required field `job_id`"),
        ("j1", 404, "unknown job type 'restore'; this hub knows: backup"),
        (None, 400, "Expected `object`, got `array`"),
    ]
    assert world.stored("j1", "bytes_transferred, telemetry_seq") == (7, 5)


async def test_a_batch_is_one_transaction_of_each_writer(world: World) -> None:
    world.sql(
        "INSERT INTO backup_jobs (id, vm_name, backup_type, status)"
        " SELECT CONCAT('j', seq), 'pg', 'full', 'running' FROM seq_0_to_299"
    )
    writes = "SHOW GLOBAL STATUS LIKE 'Com_insert_select'"  # the samples: once in each transaction
    before = int(world.sql(writes)[0][1])
    status, answers = await post(world, {"updates": [running(f"j{n}", bytes_transferred=n) for n in range(300)]})
    assert (status, {answer["status"] for answer in answers}) == (200, {204})
    assert int(world.sql(writes)[0][1]) - before <= WRITERS
    assert world.stored("j299", "bytes_transferred") == (299,)


async def test_an_empty_batch_is_answered_with_nothing(world: World) -> None:
    assert await post(world, {"updates": []}) == (200, [])


@pytest.mark.parametrize(
    ("body", "fragment"),
    [
        (b"{", "not valid JSON"),
        (b"", "it is empty"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `updates`"),
        (b'{"updates": 5}', "Expected `array`, got `int` - at `$.updates`"),
        (json.dumps({"updates": [{}] * 501}).encode(), "length <= 500 - at `$.updates`"),
    ],
)
async def test_a_body_that_is_no_batch_is_refused_as_a_whole(world: World, body: bytes, fragment: str) -> None:
    status, problem = await post(world, body)
    assert (status, problem["status"]) == (400, 400)
    assert fragment in problem["detail"]


async def test_a_batch_must_be_json_of_at_most_a_mebibyte(world: World) -> None:
    assert (await post(world, {"updates": []}, kind="text/plain"))[0] == 415
    assert (await post(world, {"updates": [], "x": "a" * (1 << 20)}))[0] == 413


async def test_what_the_queue_has_no_room_for_is_told_to_try_again(world: World) -> None:
    world.add("j1")
    status, answers = await post(world, {"updates": [running("j1")] * 400})
    assert status == 200
    assert [answer["status"] for answer in answers] == [204] * 300 + [503] * 100


async def test_an_item_that_the_database_refuses_spoils_no_other(world: World) -> None:
    jobs = [world.add(f"j{n}") for n in range(20)]
    world.sql(
        "CREATE TRIGGER poison BEFORE UPDATE ON backup_jobs FOR EACH ROW"
        " IF NEW.id = 'j7' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'secret of the table'; END IF"
    )
    _, answers = await post(world, {"updates": [running(job, bytes_transferred=3) for job in jobs]})
    assert [answer["status"] for answer in answers] == [500 if job == "j7" else 204 for job in jobs]
    assert "secret" not in str(answers)


async def test_an_item_whose_job_type_is_no_text_is_told_whom_it_is_about(world: World) -> None:
    world.add("j1")
    _, answers = await post(world, {"updates": [running("j1", job_type=5)]})
    assert answers == [{"job_id": "j1", "status": 400, "detail": "Expected `str`, got `int` - at `$.job_type`"}]
    async with asyncio.timeout(5):
        while world.stored("j1", "last_telemetry_at")[0] is None:
            await asyncio.sleep(0.01)


async def test_many_disks_beside_long_errors_cost_no_more_than_they_must(world: World) -> None:
    world.sql(
        "INSERT INTO backup_jobs (id, vm_name, backup_type, status, error_message)"
        " SELECT CONCAT('big', seq), 'vm', 'full', 'failed', REPEAT('x', 60000) FROM seq_0_to_9"
    )
    world.sql(
        "INSERT INTO backup_disks (backup_job_id, disk_index)"
        " SELECT CONCAT('big', j.seq), d.seq FROM seq_0_to_9 j, seq_0_to_1023 d"
    )
    received = "SHOW GLOBAL STATUS LIKE 'Bytes_sent'"
    before = int(world.sql(received)[0][1])
    _, answers = await post(world, {"updates": [running(f"big{n}") for n in range(10)]})
    assert {answer["result"] for answer in answers} == {"final"}
    assert int(world.sql(received)[0][1]) - before < 10 << 20, "each error came once, not with each of 1,024 disks"
    assert world.sql("SELECT DISTINCT LENGTH(error_message) FROM backup_jobs") == [(60000,)]


async def test_what_is_too_much_for_one_transaction_is_done_in_parts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "MAX_LOCKED_ROWS", 5)
    for n in range(8):
        world.add(f"j{n}", disks=4)
    _, answers = await post(world, {"updates": [running(f"j{n}", bytes_transferred=n) for n in range(8)]})
    assert {answer["status"] for answer in answers} == {204}
    assert world.sql("SELECT bytes_transferred FROM backup_jobs ORDER BY id") == [(n,) for n in range(8)]
