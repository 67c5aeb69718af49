"""From the hub's bytes to answers; an item of a real batch says what a single post would have been told."""

import json

import pytest

from sbc_daemon.answers import Answer
from sbc_daemon.config import Hub
from sbc_daemon.hub_access import HubAccess
from sbc_daemon.hub_answers import read_answer, read_batch_answer
from sbc_daemon.hub_link import HttpHubLink
from tests.support.front_door import front_door

TAKEN = {"job_id": "a", "status": 204, "seq": 7, "job_status": "running"}


def read(*items: object, jobs: tuple[str, ...] = ("a",), status: int = 200) -> Answer:
    return read_batch_answer(status, {}, json.dumps(items).encode(), jobs)


def test_each_item_is_read_as_the_headers_of_a_single_answer() -> None:
    answer = read(TAKEN | {"result": "stale"}, {"job_id": "b", "status": 404, "detail": "no\njob"}, jobs=("a", "b"))
    stale = {"telemetry-result": "stale", "telemetry-seq": "7", "telemetry-status": "running"}
    assert answer.items == (Answer(status=204, headers=stale), Answer(status=404, detail="no\\njob"))


def test_an_item_whose_job_the_hub_could_not_read_is_in_its_place() -> None:
    assert read({"job_id": None, "status": 400, "detail": "x"}).items == (Answer(status=400, detail="x"),)


@pytest.mark.parametrize(
    "items",
    [
        [],
        [TAKEN, TAKEN],
        [TAKEN | {"job_id": "b"}],
        [TAKEN | {"status": "204"}],
        [{"job_id": "a"}],
        ["204"],
    ],
    ids=["none", "too many", "another job's", "no number", "no status", "no object"],
)
def test_items_that_cannot_be_told_apart_are_no_items(items: list[object]) -> None:
    assert read(*items).items is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[", b"\xff", b"[" * 60_000, b'[{"job_id":"a"'])
def test_what_is_no_array_is_no_items(content: bytes) -> None:
    assert read_batch_answer(200, {}, content, ["a"]).items is None


def test_only_200_has_items() -> None:
    assert read(TAKEN, status=503).items is None
    assert read_batch_answer(503, {}, b'{"detail":"stopping"}', ["a"]) == Answer(status=503, detail="stopping")


def test_a_204_has_no_reason() -> None:
    assert read_answer(204, {}, b"words") == Answer(status=204)


async def test_a_real_hub_says_of_each_message_in_a_batch_what_it_says_of_it_alone() -> None:
    """The second time each is stale or a duplicate, whichever way it came first."""
    bodies = [
        ("j1", b'{"job_id":"j1","status":"running","seq":5}'),
        ("ghost", b'{"job_id":"ghost","status":"running","seq":1}'),
        ("j1", b'{"job_id":"j1","status":"finished","seq":6}'),
        ("j1", b'{"job_id":"j1","status":"running","seq":4}'),
    ]
    async with front_door() as door:
        url = f"http://127.0.0.1:{door.port}"
        link = HttpHubLink(url, 5.0, HubAccess(Hub(url=url)))
        first = await link.post_batch(bodies)
        together = await link.post_batch(bodies)
        singly = [await link.post(job_id, body) for job_id, body in bodies]
        await link.close()
    assert first.items is not None
    assert [item.status for item in first.items] == [204, 404, 400, 204]
    assert together.items == tuple(singly)
