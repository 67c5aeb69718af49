"""The reading side over HTTP, on a real MariaDB: what a GUI asks, and what it is told."""

from urllib.parse import quote

import pytest

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


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("vm_name=x", "unknown query parameter `vm_name`; this resource takes: status, vm, limit, cursor"),
        ("status=failed&status=running", "`status` is given twice"),
        ("vm=" + "x" * 256, "`vm` must be text of at most 255 characters"),
        ("limit=", "`limit` must be a whole number from 1 to 1000"),
        ("limit=" + "9" * 5000, "`limit` must be a whole number from 1 to 1000"),
        ("%1b[2J=1", "unknown query parameter `\\x1b[2J`; this resource takes: status, vm, limit, cursor"),
    ],
)
async def test_a_question_that_is_not_understood_is_never_answered_as_another(
    world: World, query: str, detail: str
) -> None:
    assert await world.get(f"{PATH}?{query}") == (
        400,
        {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": detail},
    )


async def test_a_job_takes_no_parameters(world: World) -> None:
    status, problem = await world.get(f"{PATH}/{world.add('j1')}?disks=no")
    assert (status, problem["detail"]) == (400, "unknown query parameter `disks`; this resource takes none")


@pytest.mark.parametrize("vm", ["'; DROP TABLE backup_jobs; --", "\\", "%", "_", "\0", "\ufffd", "😀", "漢", " "])
async def test_no_text_in_the_search_box_does_harm(world: World, vm: str) -> None:
    world.add("j1")
    assert (await world.get(f"{PATH}?vm={quote(vm)}"))[1]["jobs"] == []
    assert len((await world.get(PATH))[1]["jobs"]) == 1


async def test_bytes_that_are_no_text_in_the_search_box_do_no_harm(world: World) -> None:
    for query in ("vm=%ED%A0%80", "vm=%FF", "vm=%"):
        assert (await world.get(f"{PATH}?{query}"))[0] in (200, 400)
