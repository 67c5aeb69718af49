"""Backlogs in batches: order per job, each message judged as if alone; in virtual time against a scripted hub."""

import asyncio
import logging

import pytest

from sbc_daemon.answers import Answer
from telemetry_common.contract import MAX_BODY_BYTES
from tests.support.delivery import World
from tests.support.messages import end, message, progress
from tests.support.scripted_hub import ok


@pytest.fixture
def world() -> World:
    return World()


async def outage(w: World, seconds: float = 20.0) -> None:
    """What was kept waits for a hub that comes back."""
    w.hub.up = False
    await asyncio.sleep(seconds)
    w.hub.posts.clear()
    w.hub.batches.clear()
    w.hub.up = True


def test_a_backlog_of_many_jobs_takes_few_requests_and_keeps_each_jobs_order(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.up = False
        await w.keep(*(message(10 * n + k, job=f"j{n}") for n in range(1, 1001) for k in range(4)))
        await outage(w)
        await asyncio.sleep(10.0)
        assert await w.empty()
        assert all(w.hub.seqs(f"j{n}") == [10 * n + k for k in range(4)] for n in range(1, 1001))
        assert 8 <= len(w.hub.batches) <= 12
        assert all(len(jobs) == len(set(jobs)) <= 500 for jobs in w.hub.batches)
        assert w.hub.most_in_flight <= 3

    world.play(story)


def test_ten_thousand_jobs_are_up_to_date_within_ten_seconds_of_the_hubs_return(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.up = False
        await w.keep(*(message(n, job=f"j{n}") for n in range(1, 10_001)))
        await outage(w)
        await asyncio.sleep(10.0)
        assert len(w.hub.stored) == 10_000

    world.play(story)


@pytest.mark.parametrize("batches", [True, False], ids=["in batches", "one by one"])
def test_after_a_lost_outbox_ten_thousand_jobs_are_renumbered_in_few_writes(world: World, batches: bool) -> None:
    """None of them synced: the sync for each was what cost the time."""

    async def story(w: World) -> None:
        jobs = 10_000 if batches else 500
        w.hub.up = False
        await w.keep(*(message(n, job=f"j{n}") for n in range(1, jobs + 1)))
        w.hub.stored = {f"j{n}": 10**17 + n for n in range(1, jobs + 1)}
        if not batches:
            w.hub.said_of_batches = [Answer(status=404)] * 10
        await outage(w)
        synced, written = w.disk.syncs, w.disk.renumberings
        await asyncio.sleep(20.0)
        assert await w.empty()
        assert all(w.hub.stored[f"j{n}"] > 10**17 + n for n in range(1, jobs + 1))
        assert w.disk.renumberings - written <= (jobs / 500 + 5 if batches else jobs)
        assert w.disk.syncs - synced <= 3

    world.play(story)


def test_a_lone_state_change_is_a_post_of_its_own_also_while_a_backlog_drains(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.up = False
        await w.keep(*(message(10 * n + k, job=f"j{n}") for n in range(1, 5001) for k in range(4)))
        await outage(w)
        while not w.hub.batches:
            await asyncio.sleep(0.001)
        at = w.clock.monotonic()
        await w.keep(message(1, job="fresh"))
        await asyncio.sleep(0.006)
        assert "fresh" in w.hub.stored
        assert not [jobs for jobs in w.hub.batches if "fresh" in jobs]
        assert not await w.empty(), "the backlog had drained before"
        assert w.clock.monotonic() - at < 0.01

    world.play(story)


def test_each_message_of_a_batch_is_settled_by_its_own_answer(world: World) -> None:
    async def story(w: World) -> None:
        jobs = ["good", "ghost", "bad", "broken", "late", "over", *(f"j{n}" for n in range(20))]
        w.hub.special = {
            "ghost": [Answer(status=404, detail="no such job")] * 100,
            "bad": [Answer(status=400, detail="`disks` is no array")],
            "broken": [Answer(status=500)],
            "over": [ok("final", seq=99, status="cancelled")],
        }
        w.hub.stored["late"] = 10**17
        w.hub.up = False
        await w.keep(*(message(n + 1, job=job) for n, job in enumerate(jobs)))
        await outage(w)
        await asyncio.sleep(6.0)
        assert len(max(w.hub.batches, key=len)) >= 24
        assert [lane.reason for lane in w.forwarder.held()] == ["404 no such job"]
        assert [letter.reason for letter in await w.outbox.dead_letters()] == ["400 `disks` is no array"]
        assert w.forwarder.verdict("over") == "cancelled"
        assert w.hub.stored["late"] == 10**17 + 1
        await asyncio.sleep(60.0)
        assert {"good", "broken", "j0", "j19"} <= w.hub.stored.keys()

    world.play(story)


@pytest.mark.parametrize(
    "answer",
    [Answer(status=status) for status in (400, 404, 405, 413, 415, 422, 200, 204)],
    ids=lambda answer: str(answer.status),
)
def test_a_hub_that_takes_no_batches_gets_the_messages_singly(world: World, answer: Answer) -> None:
    async def story(w: World) -> None:
        w.hub.said_of_batches = [answer] * 100
        await w.keep(*(message(n, job=f"j{n}") for n in range(1, 101)))
        await asyncio.sleep(5.0)
        assert await w.empty()
        assert len(w.hub.batches) == 1
        assert await w.outbox.dead_letters() == []
        assert w.forwarder.held() == ()
        assert w.forwarder.counters["delivered"] == 100

    world.play(story)


def test_that_a_hub_takes_no_batches_is_said_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def story(w: World) -> None:
        w.hub.said_of_batches = [Answer(status=404, detail="Not Found")] * 2
        await w.outbox.keep([message(n, job=f"j{n}") for n in range(1, 1001)], [], synced=True)
        w.forwarder.take_up(await w.outbox.waiting())
        await asyncio.sleep(10.0)
        assert await w.empty()

    world.play(story)
    assert caplog.messages == ['hub takes no batches; backlogs go message by message reason="404 Not Found"']


def test_a_hub_that_was_away_is_offered_batches_again(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.said_of_batches = [Answer(status=404)]
        await w.keep(*(message(n, job=f"j{n}") for n in range(1, 101)))
        await asyncio.sleep(5.0)
        w.hub.up = False
        await w.keep(*(message(n, job=f"j{n}") for n in range(101, 201)))
        await outage(w)
        await asyncio.sleep(6.0)
        assert await w.empty()
        assert len(w.hub.batches) == 1

    world.play(story)


def test_one_that_hangs_the_hub_takes_nobody_with_it_for_long(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.hanging.add("bad")
        w.hub.up = False
        await w.keep(message(1, job="bad"), *(message(n, job=f"j{n}") for n in range(2, 102)))
        await outage(w)
        await asyncio.sleep(60.0)
        assert len(w.hub.stored) == 100

    world.play(story)


@pytest.mark.parametrize("answer", [Answer(status=500), Answer(status=408)], ids=["500", "408"])
def test_what_fails_as_a_whole_is_tried_one_by_one(world: World, answer: Answer) -> None:
    async def story(w: World) -> None:
        w.hub.said_of_batches = [answer]
        await w.keep(*(message(n, job=f"j{n}") for n in range(1, 101)))
        await asyncio.sleep(30.0)
        assert await w.empty()
        assert len(w.hub.batches) == 1

    world.play(story)


def test_a_hub_that_serves_nobody_now_is_waited_for_by_all(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.said_of_batches = [Answer(status=503, headers={"retry-after": "20"})]
        await w.keep(*(message(n, job=f"j{n}") for n in range(1, 101)))
        await asyncio.sleep(19.0)
        assert (len(w.hub.batches), len(w.hub.posts)) == (1, 0)
        await asyncio.sleep(8.0)
        assert await w.empty()

    world.play(story)


def test_a_client_that_is_not_let_in_holds_all_of_a_batch(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.said_of_batches = [Answer(status=401, detail="a token is needed")]
        await w.keep(*(message(n, job=f"j{n}") for n in range(1, 101)))
        await asyncio.sleep(1.0)
        assert len(w.forwarder.held()) == 100
        assert await w.outbox.dead_letters() == []
        w.forwarder.ask_again()
        await asyncio.sleep(1.0)
        assert await w.empty()

    world.play(story)


def test_messages_that_do_not_fit_into_one_body_go_in_several(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.up = False
        await w.keep(*(message(n, job=f"j{n}", size=60_000) for n in range(1, 101)))
        await outage(w)
        await asyncio.sleep(10.0)
        assert await w.empty()
        assert max(map(len, w.hub.batches)) == MAX_BODY_BYTES // 60_500
        assert len(w.hub.batches) <= 8

    world.play(story)


def test_in_batches_too_states_go_before_progress(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.up = False
        await w.keep(*(progress(n, f"p{n}") for n in range(2, 1000)))
        await w.keep(*(end(n, f"j{n}") for n in range(1000, 2000)))
        await outage(w)
        await asyncio.sleep(10.0)
        assert await w.empty()
        statuses = [post.update.status for post in w.hub.posts[1:]]
        assert statuses == sorted(statuses)

    world.play(story)
