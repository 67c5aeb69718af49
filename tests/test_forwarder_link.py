"""Whose turn it is, and what an outage of the hub does to it; in virtual time against a scripted hub."""

import asyncio
import itertools
import logging

import pytest

from sbc_daemon.answers import Answer
from tests.support.delivery import World
from tests.support.messages import end, message


@pytest.fixture
def world() -> World:
    return World()


def test_no_more_than_max_in_flight_at_once(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.said_of_batches = [Answer(status=404)]
        await w.keep(*(message(n, job=f"j{n}") for n in range(1, 101)))
        await asyncio.sleep(2.0)
        assert await w.empty()
        assert w.hub.most_in_flight == 8

    world.play(story)


def test_state_changes_go_before_progress_before_samples(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.up = False
        await w.keep(message(1, "sample", "a", phase="charts"))
        await w.keep(*(message(n, "progress", f"j{n}", phase="progress") for n in range(2, 50)))
        await w.keep(*(message(n, job=f"j{n}", phase="state") for n in range(50, 100)))
        await asyncio.sleep(20.0)
        w.hub.posts.clear()
        w.hub.up = True
        await asyncio.sleep(10.0)
        _probe, *order, last = [str(post.update.current_phase) for post in w.hub.posts]
        assert len(order) >= 97
        assert order == sorted(order, reverse=True)
        assert last == "charts"

    world.play(story)


def test_while_the_hub_is_away_one_probe_at_a_time_at_most_five_seconds_apart(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.up = False
        await w.keep(*(message(n, job=f"j{n}") for n in range(1, 101)))
        await asyncio.sleep(60.0)
        w.hub.most_in_flight = 0
        w.hub.posts.clear()
        await asyncio.sleep(600.0)
        times = [post.at for post in w.hub.posts]
        assert w.hub.most_in_flight == 1
        assert max(b - a for a, b in itertools.pairwise(times)) <= 5.1
        assert len(times) < 600
        assert w.forwarder.hub_state().link == "down"

    world.play(story)


@pytest.mark.parametrize("outage_seconds", [1.0, 30.0, 3600.0, 6 * 3600.0])
def test_a_thousand_jobs_are_up_to_date_within_ten_seconds_of_the_hubs_return(
    world: World, outage_seconds: float
) -> None:
    async def story(w: World) -> None:
        w.hub.up = False
        await w.keep(*(message(n, job=f"j{n}") for n in range(1, 1001)))
        await asyncio.sleep(outage_seconds)
        w.hub.up = True
        await asyncio.sleep(10.0)
        assert len(w.hub.stored) == 1000
        assert await w.empty()

    world.play(story)


def test_an_outage_is_two_lines_in_the_journal(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def story(w: World) -> None:
        w.hub.up = False
        await w.keep(*(message(n, job=f"j{n}") for n in range(1, 31)))
        await asyncio.sleep(120.0)
        w.hub.up = True
        await asyncio.sleep(10.0)

    world.play(story)
    lost, back = [record.getMessage() for record in caplog.records]
    assert lost == 'cannot reach the hub; messages wait in the outbox reason="connection refused" jobs=30'
    assert back.startswith("hub answers again after=2m")


def test_one_lost_connection_is_tried_again_at_once_without_a_word(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(w: World) -> None:
        w.hub.special["job-1"] = [Answer(failure="unreachable", detail="server disconnected")]
        await w.keep(message(1))
        await asyncio.sleep(1.0)
        assert await w.empty()

    world.play(story)
    assert not caplog.records


def test_a_job_whose_requests_hang_delays_no_other(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.hanging.add("bad")
        await w.keep(message(1, job="bad"))
        for n in range(100):
            await w.keep(message(10 + n, job=f"good-{n}"))
            await asyncio.sleep(1.0)
            assert f"good-{n}" in w.hub.stored

    world.play(story)


def test_news_does_not_wait_for_the_only_other_job_whose_request_hangs(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.hanging.add("bad")
        await w.keep(message(1, job="bad"))
        await asyncio.sleep(40.0)
        assert w.forwarder.hub_state().link == "down"
        await w.keep(message(2, job="good"))
        await asyncio.sleep(6.0)
        assert "good" in w.hub.stored

    world.play(story)


def test_while_the_hub_hangs_it_is_asked_by_few(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.hung = True
        await w.keep(*(message(n, job=f"j{n}") for n in range(1, 101)))
        await asyncio.sleep(60.0)
        w.hub.most_in_flight = 0
        await asyncio.sleep(600.0)
        assert w.hub.most_in_flight <= 5
        w.hub.hung = False
        await asyncio.sleep(10.0)
        assert len(w.hub.stored) == 100

    world.play(story)


def test_a_job_that_makes_the_hub_fail_delays_no_other_and_is_never_given_up(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.special["bad"] = [Answer(status=500)] * 40
        await w.keep(message(1, job="bad"), message(2, job="good"))
        await asyncio.sleep(1.0)
        assert "good" in w.hub.stored
        await asyncio.sleep(1200.0)
        assert w.hub.stored["bad"] == 1

    world.play(story)


def test_a_job_that_alone_is_turned_away_delays_no_other(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.special["bad"] = [Answer(status=503)] * 60
        await w.keep(message(1, job="bad"), message(2, job="good"))
        await asyncio.sleep(1.0)
        assert "good" in w.hub.stored
        for n in range(60):
            await w.keep(message(10 + n, job=f"good-{n}"))
            await asyncio.sleep(1.0)
            assert f"good-{n}" in w.hub.stored
        await asyncio.sleep(2400.0)
        assert w.hub.stored["bad"] == 1

    world.play(story)


def test_retry_after_is_waited_for_by_all(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.special["job-1"] = [Answer(status=503, headers={"retry-after": "20"})]
        await w.keep(message(1))
        await asyncio.sleep(1.0)
        await w.keep(message(2, job="other"))
        await asyncio.sleep(18.0)
        assert len(w.hub.posts) == 1
        await asyncio.sleep(3.0)
        assert await w.empty()

    world.play(story)


def test_what_waits_at_the_start_goes_out_within_a_second(world: World) -> None:
    async def story(w: World) -> None:
        await w.outbox.keep([message(1), end(2)], [], synced=True)
        w.forwarder.take_up(await w.outbox.waiting())
        await asyncio.sleep(1.0)
        assert w.hub.seqs() == [1, 2]

    world.play(story)


def test_a_message_that_nobody_announced_is_found(world: World) -> None:
    async def story(w: World) -> None:
        await w.outbox.keep([message(1)], [], synced=True)
        await asyncio.sleep(31.0)
        assert await w.empty()

    world.play(story)


def test_on_a_full_disk_the_newest_still_reaches_the_hub(world: World) -> None:
    async def story(w: World) -> None:
        w.disk.failure = "the disk is full"
        await w.keep(message(1))
        await w.keep(message(2))
        await asyncio.sleep(0.5)
        assert w.hub.stored["job-1"] == 2
        assert await w.empty()

    world.play(story)


def test_it_makes_its_turns_with_nothing_to_do(world: World) -> None:
    async def story(w: World) -> None:
        await asyncio.sleep(60.0)
        assert 30 <= w.beats <= 70
        assert w.forwarder.hub_state().link == "unknown"

    world.play(story)
