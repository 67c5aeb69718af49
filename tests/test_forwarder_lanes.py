"""What unknown jobs and old backlogs cost the others; in virtual time against a hub that is slow to answer."""

import asyncio
import itertools

import pytest

from sbc_daemon.answers import Answer
from tests.support.delivery import World
from tests.support.messages import message
from tests.support.scripted_hub import ScriptedHub

GHOSTS = [f"ghost-{n}" for n in range(2000)]
SLOW_SECONDS = 0.5
FIRST_ROUND_SECONDS = 200.0
"""Until every ghost was asked for and is held, and so many of them are due again that the hub alone could not do it."""
A_REQUEST_AND_ITS_TURN = 2 * SLOW_SECONDS + 0.1


@pytest.fixture
def world() -> World:
    """A hub that serves 16 requests a second, and knows no ghost."""
    made = World()
    made.hub = ScriptedHub(made.clock.monotonic, SLOW_SECONDS)
    for ghost in GHOSTS:
        made.hub.special[ghost] = [Answer(status=404, detail="no such job")] * 100
    return made


def test_jobs_that_the_hub_does_not_know_delay_no_other(world: World) -> None:
    async def story(w: World) -> None:
        await w.keep(*(message(1, job=ghost) for ghost in GHOSTS))
        await asyncio.sleep(FIRST_ROUND_SECONDS)
        for n in range(30):
            await w.keep(message(2, job=f"good-{n}"))
            await asyncio.sleep(A_REQUEST_AND_ITS_TURN)
            assert f"good-{n}" in w.hub.stored

    world.play(story)


def test_news_of_unknown_jobs_does_not_bring_them_forward(world: World) -> None:
    async def story(w: World) -> None:
        await w.keep(*(message(1, job=ghost) for ghost in GHOSTS))
        await asyncio.sleep(FIRST_ROUND_SECONDS)
        for n in range(30):
            await w.keep(*(message(2 + n, "progress", ghost) for ghost in GHOSTS))
            await w.keep(message(2, job=f"good-{n}"))
            await asyncio.sleep(A_REQUEST_AND_ITS_TURN)
            assert f"good-{n}" in w.hub.stored

    world.play(story)


def test_of_the_requests_under_way_a_quarter_at_most_asks_for_unknown_jobs(world: World) -> None:
    async def story(w: World) -> None:
        await w.keep(*(message(1, job=ghost) for ghost in GHOSTS))
        await asyncio.sleep(FIRST_ROUND_SECONDS)
        w.hub.most_in_flight = 0
        asked = len(w.hub.posts)
        await asyncio.sleep(300.0)
        assert w.hub.most_in_flight == 2
        assert len(w.hub.posts) - asked > 1000

    world.play(story)


def test_what_a_start_finds_goes_out_behind_fresh_news_states_first(world: World) -> None:
    async def story(w: World) -> None:
        await w.outbox.keep([message(n, "progress", f"found-{n}") for n in range(1, 50)], [], synced=True)
        await w.outbox.keep([message(n, job=f"found-{n}") for n in range(50, 100)], [], synced=True)
        w.forwarder.take_up(await w.outbox.waiting())
        await asyncio.sleep(0.1)
        await w.keep(message(100, job="fresh"))
        await asyncio.sleep(A_REQUEST_AND_ITS_TURN)
        assert "fresh" in w.hub.stored
        await asyncio.sleep(20.0)
        found = [int(post.job_id[6:]) for post in w.hub.posts if post.job_id != "fresh"]
        assert found == [*range(50, 100), *range(1, 50)]

    world.play(story)


def test_a_job_found_at_the_start_that_has_news_is_served_with_the_fresh_ones(world: World) -> None:
    async def story(w: World) -> None:
        jobs = [*GHOSTS, "good"]
        await w.outbox.keep([message(1, job=job) for job in jobs], [], synced=True)
        w.forwarder.take_up(await w.outbox.waiting())
        await asyncio.sleep(0.1)
        await w.keep(message(2, job="good"))
        await asyncio.sleep(A_REQUEST_AND_ITS_TURN + SLOW_SECONDS)
        assert w.hub.stored["good"] == 2

    world.play(story)


def test_a_hub_that_cannot_keep_up_with_the_news_still_hears_of_those_who_wait(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.special["doubtful"] = [Answer(status=500)]
        await w.keep(message(1, job="doubtful"))
        await w.outbox.keep([message(1, job="found")], [], synced=True)
        w.forwarder.take_up(["found"])
        numbers = itertools.count(2)
        for _ in range(60):
            await w.keep(*(message(next(numbers), job=f"busy-{n}") for n in range(40)))
            await asyncio.sleep(1.0)
        assert {"found", "doubtful"} <= w.hub.stored.keys()

    world.play(story)
