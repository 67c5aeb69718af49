"""What becomes of each message: order, answers, holds, dead letters; in virtual time against a scripted hub."""

import asyncio
import logging

import pytest

from sbc_daemon.answers import Answer
from tests.support.delivery import World
from tests.support.messages import end, message, progress
from tests.support.scripted_hub import ok

DAY = 86_400.0


@pytest.fixture
def world() -> World:
    return World()


def test_a_message_goes_out_at_once_with_seq_and_age(world: World) -> None:
    async def story(w: World) -> None:
        await asyncio.sleep(100.0)
        await w.keep(message(1, at=88.0))
        await asyncio.sleep(0.1)
        assert await w.empty()
        (post,) = w.hub.posts
        assert (post.at, post.update.seq, post.update.age_seconds) == (100.0, 1, 12.0)

    world.play(story)


def test_states_of_a_job_arrive_in_order_one_at_a_time(world: World) -> None:
    async def story(w: World) -> None:
        await w.keep(*(message(seq) for seq in range(1, 21)))
        await asyncio.sleep(2.0)
        assert w.hub.seqs() == list(range(1, 21))
        assert w.hub.most_in_flight == 1

    world.play(story)


def test_an_unknown_job_is_held_tried_slowly_and_a_dead_letter_after_a_day(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.special["ghost"] = [Answer(status=404, detail="no such job")] * 10_000
        await w.keep(message(1, job="ghost"), message(2, job="good"))
        await asyncio.sleep(3600.0)
        assert 3600 / 300 <= len(w.hub.seqs("ghost")) <= 3600 / 30
        assert "good" in w.hub.stored
        assert [lane.reason for lane in w.forwarder.held()] == ["404 no such job"]
        assert await w.outbox.dead_letters() == []
        await asyncio.sleep(DAY)
        assert [letter.reason for letter in await w.outbox.dead_letters()] == ["404 no such job"]
        assert w.forwarder.held() == ()

    world.play(story)


def test_a_held_job_is_released_when_the_hub_takes_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def story(w: World) -> None:
        w.hub.special["late"] = [Answer(status=404, detail="no such job")] * 2
        await w.keep(message(1, job="late"))
        await asyncio.sleep(700.0)
        assert w.hub.stored["late"] == 1

    world.play(story)
    held, released = [record.getMessage() for record in caplog.records]
    assert held == 'hub does not take messages for now job=late reason="404 no such job"'
    assert released.startswith("hub takes messages again job=late after=")


def test_a_refused_token_is_said_once_and_all_go_on_when_the_first_is_taken(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(w: World) -> None:
        for n in range(50):
            w.hub.special[f"j{n}"] = [Answer(status=401, detail="no token")] * (1 if n == 7 else 2 if n < 5 else 1)
        await w.keep(*(message(n + 1, job=f"j{n}") for n in range(50)))
        await asyncio.sleep(1.0)
        assert len(w.forwarder.held()) == 50
        assert len(caplog.records) == 1
        await asyncio.sleep(61.0)
        assert len(w.hub.stored) >= 45

    world.play(story)


def test_after_another_token_was_read_the_jobs_that_were_not_let_in_go_at_once(world: World) -> None:
    async def story(w: World) -> None:
        for n in range(20):
            w.hub.special[f"j{n}"] = [Answer(status=401 if n % 2 else 403)]
        await w.keep(*(message(n + 1, job=f"j{n}") for n in range(20)))
        await asyncio.sleep(1.0)
        assert len(w.forwarder.held()) == 20
        w.forwarder.ask_again()
        await asyncio.sleep(1.0)
        assert await w.empty()
        assert w.forwarder.held() == ()

    world.play(story)


def test_a_refused_message_is_a_dead_letter_at_once_and_the_next_goes_out(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.special["job-1"] = [Answer(status=400, detail="`disks` is no array")]
        await w.keep(message(1), message(2))
        await asyncio.sleep(1.0)
        (letter,) = await w.outbox.dead_letters()
        assert (letter.seq, letter.reason) == (1, "400 `disks` is no array")
        assert w.hub.stored["job-1"] == 2
        assert w.forwarder.counters["rejected"] == 1

    world.play(story)


def test_stale_news_goes_above_the_stored_seq_and_out_again_at_once(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.stored["job-1"] = 10**17
        await w.keep(message(1), message(2))
        await asyncio.sleep(0.5)
        assert await w.empty()
        first, renumbered, second, again = w.hub.seqs()
        assert (first, second) == (1, 2)
        assert (renumbered, again) == (10**17 + 1, 10**17 + 2)
        assert w.disk.ceiling > 10**17

    world.play(story)


def test_stale_news_that_a_failing_disk_cannot_renumber_is_renumbered_when_it_works(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.stored["job-1"] = 10**17
        await w.keep(message(1))
        w.disk.failure = "disk I/O error"
        await asyncio.sleep(60.0)
        assert w.forwarder.counters["stale"] > 3
        w.disk.failure = None
        await asyncio.sleep(60.0)
        assert await w.empty()
        assert w.hub.stored["job-1"] > 10**17

    world.play(story)


def test_a_stale_sample_counts_as_delivered(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.stored["job-1"] = 10**17
        await w.keep(message(1, "sample"))
        await asyncio.sleep(0.5)
        assert await w.empty()
        assert w.hub.seqs() == [1]

    world.play(story)


def test_a_dead_letter_is_taken_once_its_fault_is_mended(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.special["job-1"] = [Answer(status=400, detail="no")]
        await w.keep(end(1))
        await asyncio.sleep(1.0)
        await w.retry()
        await asyncio.sleep(1.0)
        assert await w.empty()
        assert w.hub.stored["job-1"] == 1
        assert await w.outbox.dead_letters() == []

    world.play(story)


def test_a_dead_letter_that_is_refused_again_is_one_again(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.special["job-1"] = [Answer(status=400, detail="no"), Answer(status=422, detail="still no")]
        await w.keep(message(1))
        await asyncio.sleep(1.0)
        await w.retry()
        await asyncio.sleep(1.0)
        (letter,) = await w.outbox.dead_letters()
        assert (letter.seq, letter.reason) == (1, "422 still no")

    world.play(story)


def test_an_old_dead_letter_never_becomes_the_newest_at_the_hub(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.special["job-1"] = [Answer(status=400, detail="no")]
        await w.keep(message(1), message(2))
        await asyncio.sleep(1.0)
        await w.retry()
        await asyncio.sleep(1.0)
        assert await w.empty()
        assert w.hub.seqs() == [1, 2, 1]
        assert w.hub.stored["job-1"] == 2

    world.play(story)


def test_a_jobs_end_that_was_a_dead_letter_wins_over_any_stored_seq(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.special["job-1"] = [Answer(status=400, detail="no")]
        await w.keep(end(1))
        await asyncio.sleep(1.0)
        w.hub.stored["job-1"] = 10**17
        await w.retry()
        await asyncio.sleep(1.0)
        assert await w.empty()
        assert w.hub.posts[-1].update.status == "completed"
        assert w.hub.stored["job-1"] == 10**17 + 1

    world.play(story)


def test_a_hub_that_calls_everything_stale_is_asked_slowly(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.special["job-1"] = [ok("stale", seq=2**63 - 1)] * 10_000
        await w.keep(message(1))
        await asyncio.sleep(300.0)
        assert len(w.hub.posts) < 60
        assert not await w.empty()

    world.play(story)


@pytest.mark.parametrize("result", ["final", "duplicate"])
def test_final_and_duplicate_count_as_delivered(world: World, result: str) -> None:
    async def story(w: World) -> None:
        w.hub.special["job-1"] = [ok(result, seq=99, status="cancelled")]
        await w.keep(message(1))
        await asyncio.sleep(0.5)
        assert await w.empty()
        assert w.forwarder.verdict("job-1") == "cancelled"
        assert w.forwarder.counters[result] == 1

    world.play(story)


def test_progress_replaced_while_under_way_is_sent_after_it(world: World) -> None:
    async def story(w: World) -> None:
        await w.keep(progress(1))
        await asyncio.sleep(0.002)
        await w.keep(progress(2, at=1.0))
        await asyncio.sleep(0.5)
        assert w.hub.seqs() == [1, 2]
        assert await w.empty()

    world.play(story)


def test_a_dead_letter_that_cannot_be_written_stays_in_its_lane(world: World) -> None:
    async def story(w: World) -> None:
        w.hub.special["job-1"] = [Answer(status=400)] * 100
        await w.keep(message(1))
        w.disk.failure = "the disk is full"
        await asyncio.sleep(3.0)
        w.disk.failure = None
        assert not await w.empty()
        await asyncio.sleep(10.0)
        assert len(await w.outbox.dead_letters()) == 1
        assert await w.empty()

    world.play(story)


def test_lanes_of_delivered_jobs_are_forgotten(world: World) -> None:
    async def story(w: World) -> None:
        await w.keep(*(end(n, f"j{n}") for n in range(1, 200)))
        await asyncio.sleep(5.0)
        assert len(w.forwarder._lanes) == 0
        assert w.forwarder.idle

    world.play(story)
