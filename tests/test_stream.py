"""The stream of changes in virtual time: what readers are told, by whomever it was changed, and what they are not."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import pytest
from msgspec import convert, structs

from sha_daemon.database import DatabaseAway, Session
from sha_daemon.ingest import Ingest
from sha_daemon.ingest_queue import IngestQueue, Room
from sha_daemon.job_types import BACKUP
from sha_daemon.records import Disk, Job
from sha_daemon.replies import Problem
from sha_daemon.shedding import Shedding
from sha_daemon.silence import Thresholds
from sha_daemon.stream import LINGER_SECONDS, Stream
from sha_daemon.stream_ring import BLOCK_BYTES
from sha_daemon.stream_subscribers import BEHIND_SECONDS, MAX_WAITING_BYTES, Subscriber
from sha_daemon.trouble import Trouble
from sha_daemon.unwritten import Unwritten
from sha_daemon.writer import Writer
from telemetry_common.contract import Update
from telemetry_common.lifecycle import Pulse
from testbed.memory_database import MemoryDatabase
from tests.support.databases import write
from tests.support.stream import Ears, FakeWire, following
from tests.support.virtual_clock import VirtualClock, run_virtual

T = TypeVar("T")
SOON = 0.1
"""Within this a change is told after its COMMIT."""
A_SECOND = 1.2
"""About a second: within this a change of another program is told."""


class Followed(MemoryDatabase):
    """Counts what the stream asks of the database."""

    asked = 0
    failing = 0
    """The how-many-th transaction from now fails; 0: none."""
    slow = 0.0
    """Seconds until an answer arrives, by which time it may be old."""

    async def run(self, work: Callable[[Session], T]) -> T:
        self.asked += 1
        self.failing -= 1
        if self.failing == 0:
            raise DatabaseAway("away")
        answer = await super().run(work)
        await asyncio.sleep(self.slow)
        return answer


class Stage:
    """A stream beside a writer, on one in-memory database, with the jobs j0 to j9 running."""

    def __init__(self, max_streams: int = 10, ring_bytes: int = 1 << 20, *, context_required: bool = False) -> None:
        self.clock = VirtualClock()
        self.tables = MemoryDatabase(self.clock, context_required=context_required)
        self.followed = Followed(self.clock)
        self.followed.tables = self.tables.tables
        thresholds = Thresholds(warn=60, fail=300)
        self.stream = Stream(
            {BACKUP: self.followed}, self.clock, self._reading, thresholds, max_streams, ring_bytes=ring_bytes
        )
        published = partial(self.stream.committed, BACKUP)
        queue, trouble, pulse = IngestQueue(Room(1000)), Trouble(), Pulse("writer", 60, self.clock)
        self._writer = Writer(
            self.tables, self.clock, lambda _: self._reading(), queue, trouble, Unwritten(), pulse, published
        )
        self._ingest = Ingest([self._writer], trouble, Shedding(self.clock), self.clock)
        for n in range(10):
            self.tables.add_job(Job(job_id=f"j{n}", status="running"), vm_name=f"vm-{n}")

    def _reading(self) -> int:
        return round(self.clock.now * 1e6)

    async def say(self, job_id: str, **fields: Any) -> None:
        """A sender's update, committed by this hub."""
        await self._ingest.submit(job_id, convert({"status": "running"} | fields, Update))

    async def change(self, job_id: str, **fields: Any) -> None:
        """Another program writes to the job's row."""
        await self.tables.run(write(structs.replace(self.tables.tables.jobs[job_id].job, **fields)))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            work = [self._writer.run(), *(task for _, task in self.stream.tasks())]
            tasks = [group.create_task(one) for one in work]
            yield
            for task in tasks:
                task.cancel()


def play(story: Callable[[Stage], Coroutine[Any, Any, None]], stage: Stage | None = None) -> None:
    scene = stage or Stage()

    async def main() -> None:
        async with scene.running():
            await story(scene)

    run_virtual(main(), scene.clock)


def last_told(ears: Ears) -> dict[str, Any]:
    """What a reader knows in the end, by job, as a dashboard would keep it."""
    known: dict[str, Any] = {}
    for told in ears.told:
        if told.name == "reset":
            known.clear()
        elif told.name == "job":
            known[told.data["job_id"]] = told.data
        elif told.name == "gone":
            del known[told.data["job_id"]]
    return known


def test_a_reader_is_given_the_live_jobs_first_and_then_each_change_soon_after_its_commit() -> None:
    async def story(stage: Stage) -> None:
        await stage.change("j3", status="pending")
        await stage.change("j4", status="completed")
        async with following(stage.stream) as reader:
            assert reader.ears.names() == ["job"] * 9 + ["ready"]
            assert {job_id for job_id, _ in reader.ears.jobs()} == {f"j{n}" for n in range(10)} - {"j4"}
            assert reader.ears.told[-1].data == {"jobs": 9}
            await stage.say("j1", bytes_transferred=5)
            await asyncio.sleep(SOON)
            assert reader.ears.jobs()[9:] == [("j1", 5)]
            await stage.say("j1", status="completed")
            await asyncio.sleep(SOON)
            assert reader.ears.jobs("status")[10:] == [("j1", "completed")]

    play(story)


def test_of_a_job_that_changes_often_only_the_newest_is_told() -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as reader:
            for n in range(1, 101):
                await stage.say("j1", bytes_transferred=n)
                await asyncio.sleep(0.001)
            await asyncio.sleep(SOON)
            figures = [moved for _, moved in reader.ears.jobs()[10:]]
            assert figures == sorted(set(figures))
            assert figures[-1] == 100
            assert len(figures) <= 4

    play(story)


def test_what_shows_nothing_new_is_not_told() -> None:
    async def story(stage: Stage) -> None:
        await stage.say("j1", bytes_transferred=5, seq=1)
        await stage.say("j2", status="completed", seq=1)
        await asyncio.sleep(10)
        async with following(stage.stream) as reader:
            await stage.say("j1", bytes_transferred=5, seq=1)
            await stage.say("j2", status="completed", seq=1)
            await stage.say("nobody", bytes_transferred=5)
            await asyncio.sleep(A_SECOND)
            assert reader.ears.jobs()[9:] == [("j1", 5)], "it was heard again, and the ended one is no news"

    play(story)


def test_disks_that_the_table_has_no_row_for_are_not_told() -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as reader:
            await stage.say("j1", bytes_transferred=5, disks=[{"disk_index": 0, "bytes_transferred": 5}])
            await asyncio.sleep(3 * A_SECOND)
            assert reader.ears.jobs("disks")[10:] == [("j1", [])]

    play(story, Stage(context_required=True))


@pytest.mark.parametrize("seed", range(20))
def test_a_reader_that_comes_and_goes_is_told_exactly_what_one_that_stays_is_told(seed: int) -> None:
    """Whoever changes the jobs, and however old the answers of the database are; and nobody is told old news."""
    chance = random.Random(seed)

    async def changes(stage: Stage) -> None:
        for n in range(1, 150):
            who = stage.say if chance.random() < 0.8 else stage.change
            await who(f"j{chance.randrange(10)}", bytes_transferred=n)
            await asyncio.sleep(chance.choice([0, 0.01, 0.2]))

    async def story(stage: Stage) -> None:
        async with following(stage.stream) as steady:
            place, told = steady.ears.event_id, steady.ears.told[:11]
            stage.followed.slow = chance.choice([0, 0.1, 0.5])
            work = asyncio.ensure_future(changes(stage))
            while not work.done():
                async with following(stage.stream, last_event_id=place) as reader:
                    await asyncio.sleep(chance.random())
                told += reader.ears.told
                place = reader.ears.event_id or place
                await asyncio.sleep(chance.random())
            async with following(stage.stream, last_event_id=place) as reader:
                await asyncio.sleep(30)
            assert told + reader.ears.told == steady.ears.told
            now = {job_id: view.job.bytes_transferred for job_id, view in stage.tables.tables.jobs.items()}
            assert {job_id: job["bytes_transferred"] for job_id, job in last_told(steady.ears).items()} == now
            for job_id in now:
                figures = [moved for told_id, moved in steady.ears.jobs() if told_id == job_id]
                assert figures == sorted(figures)

    play(story)


@pytest.mark.parametrize(
    ("last_event_id", "reason"),
    [
        ("0000000g-1", "epoch"),
        ("", "epoch"),
        ("{epoch}", "epoch"),
        ("{epoch}-", "epoch"),
        ("{epoch}--1", "epoch"),
        ("{epoch}-1\n", "epoch"),
        ("{epoch}-\u0661", "epoch"),
        ("{epoch}-9999999999999999999999", "epoch"),
        ("{epoch}-1", "gap"),
        ("{epoch}-999", "gap"),
    ],
)
def test_an_unknown_epoch_or_a_gap_is_a_reset_and_everything_anew(last_event_id: str, reason: str) -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as steady:
            for n in range(1, 30):
                await stage.say("j1", bytes_transferred=n)
                await asyncio.sleep(SOON)
            epoch = steady.ears.event_id.split("-")[0]
            async with following(stage.stream, last_event_id=last_event_id.replace("{epoch}", epoch)) as reader:
                assert reader.ears.names() == ["reset"] + ["job"] * 10 + ["ready"]
                assert reader.ears.told[0].data == {"reason": reason}
                assert last_told(reader.ears)["j1"]["bytes_transferred"] == 29
                assert reader.ears.event_id == steady.ears.event_id

    play(story, Stage(ring_bytes=8000))


def test_whoever_was_cut_off_within_the_first_jobs_has_no_place_to_resume_from() -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as reader:
            assert [told.event_id for told in reader.ears.told[:10]] == [""] * 10
            assert reader.ears.told[10].event_id

    play(story)


def test_a_reader_of_one_job_is_told_of_that_alone() -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream, "j1") as reader, following(stage.stream) as other:
            assert reader.ears.names() == ["job", "ready"]
            for job_id in ("j1", "j2", "j1"):
                await stage.say(job_id, bytes_transferred=5 + len(other.ears.told))
                await asyncio.sleep(SOON)
            assert len(other.ears.told) == 14
            assert [job_id for job_id, _ in reader.ears.jobs()] == ["j1"] * 3
            assert reader.ears.told[-1] == other.ears.told[-1]

    play(story)


def test_a_job_that_has_ended_can_be_followed_by_itself_and_is_heard_of_when_it_is_revived() -> None:
    async def story(stage: Stage) -> None:
        await stage.change("j1", status="failed", error_message="m", watchdog_message="m", watchdog_failed_at=9.0)
        async with following(stage.stream, "j1") as reader:
            assert reader.ears.jobs("status") == [("j1", "failed")]
            await stage.say("j1")
            await asyncio.sleep(2 * SOON)
            assert reader.ears.jobs("status")[1:] == [("j1", "running")]

    play(story)


def test_a_job_made_this_moment_can_be_followed_by_itself() -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as other:
            stage.tables.add_job(Job(job_id="new", status="pending"))
            async with following(stage.stream, "new") as reader:
                assert reader.ears.jobs("status") == [("new", "pending")]
                await asyncio.sleep(SOON)
                assert other.ears.jobs("status")[10:] == [("new", "pending")]
                await stage.say("new", bytes_transferred=1)
                await asyncio.sleep(2 * SOON)
                assert last_told(reader.ears)["new"]["status"] == "running"

    play(story)


@pytest.mark.parametrize("last_event_id", [None, "{epoch}-0"])
@pytest.mark.parametrize(("job_type", "job_id", "detail"), [("backup", "nobody", "no backup job"), ("x", "j1", "type")])
def test_what_is_unknown_cannot_be_followed(job_type: str, job_id: str, detail: str, last_event_id: str | None) -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as other:
            place = None if last_event_id is None else other.ears.event_id
            with stage.stream.place(), pytest.raises(Problem, match=detail) as raised:
                await stage.stream.opening((job_type, job_id), place)
            assert raised.value.status == 404

    play(story)


def test_a_quiet_reader_is_kept_alive_and_can_resume_however_much_others_were_told() -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as other:
            async with following(stage.stream, "j1") as reader:
                for n in range(1, 40):
                    await stage.say("j2", bytes_transferred=n)
                    await asyncio.sleep(1)
                assert reader.ears.names() == ["job", "ready"]
                assert reader.writes >= 2 + 2
                place = reader.ears.event_id
            async with following(stage.stream, "j1", place) as reader:
                await stage.say("j1", bytes_transferred=7)
                await asyncio.sleep(SOON)
                assert reader.ears.names() == ["job"]
            assert int(place.split("-")[1]) > 20
            assert len(other.ears.told) == 11 + 40

    play(story, Stage(ring_bytes=20_000))


def test_a_slow_reader_that_catches_up_misses_nothing() -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as quick, following(stage.stream) as slow:
            slow.stuck = True
            for n in range(1, 21):
                await asyncio.gather(*(stage.say(f"j{j}", bytes_transferred=n, error=None) for j in range(10)))
                await asyncio.sleep(1)
            assert len(quick.ears.told) == 11 + 200
            assert slow.waiting() < MAX_WAITING_BYTES + BLOCK_BYTES
            slow.stuck = False
            await asyncio.sleep(SOON)
            assert slow.ears.told == quick.ears.told
            assert stage.stream.subscribers.dropped == 0

    play(story)


def test_a_reader_slower_than_the_ring_is_dropped_and_the_others_get_everything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as quick, following(stage.stream) as slow, following(stage.stream) as other:
            slow.stuck = True
            for n in range(1, 21):
                await asyncio.gather(*(stage.say(f"j{j}", bytes_transferred=n) for j in range(10)))
                await asyncio.sleep(SOON)
            assert slow.aborted
            assert len(quick.ears.told) == 11 + 200
            assert other.ears.told == quick.ears.told
            assert stage.stream.subscribers.dropped == 1
            await asyncio.sleep(2)

    with caplog.at_level(logging.WARNING):
        play(story, Stage(ring_bytes=30_000))
    assert [record.getMessage() for record in caplog.records] == [
        "readers of the stream were too slow and were dropped readers=1"
    ]


def test_a_reader_that_takes_nothing_for_half_a_minute_is_dropped_also_where_little_happens() -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as stuck:
            stuck.stuck = True
            while stuck.waiting() <= MAX_WAITING_BYTES:
                await asyncio.gather(*(stage.say(f"j{j}", bytes_transferred=round(stage.clock.now)) for j in range(10)))
                await asyncio.sleep(1)
            await stage.say("j1", bytes_transferred=10**6)
            await asyncio.sleep(BEHIND_SECONDS - 1)
            assert not stuck.aborted
            await asyncio.sleep(3)
            assert stuck.aborted

    play(story)


def test_nothing_is_asked_while_nobody_listens() -> None:
    async def story(stage: Stage) -> None:
        await stage.say("j1", bytes_transferred=1)
        await asyncio.sleep(600)
        assert stage.followed.asked == 0
        async with following(stage.stream):
            await asyncio.sleep(10)
        asked = stage.followed.asked
        assert 10 <= asked <= 13
        await stage.say("j1", bytes_transferred=2)
        await asyncio.sleep(600)
        assert stage.followed.asked == asked

    play(story)


def test_what_the_hub_wrote_itself_is_not_read_again() -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as reader:
            before, looks = stage.followed.asked, 30
            for n in range(looks):
                await stage.say(f"j{n % 10}", bytes_transferred=n + 1, progress_percent=n / 7, eta_seconds=n)
                await asyncio.sleep(1)
            assert stage.followed.asked - before <= looks + 2
            assert len(reader.ears.told) == 11 + looks

    play(story)


def test_a_reader_that_comes_back_soon_resumes_though_nobody_listened_meanwhile() -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as reader:
            place = reader.ears.event_id
        await stage.say("j1", bytes_transferred=1)
        await stage.change("j2", status="cancelled")
        await asyncio.sleep(LINGER_SECONDS - 5)
        async with following(stage.stream, last_event_id=place) as reader:
            await asyncio.sleep(SOON)
            assert [(told.name, told.data["job_id"]) for told in reader.ears.told] == [("job", "j1"), ("job", "j2")]
            place = reader.ears.event_id
        await asyncio.sleep(0.5)
        began = stage.clock.now
        async with following(stage.stream):
            assert stage.clock.now - began < SOON
        await asyncio.sleep(LINGER_SECONDS + 5)
        async with following(stage.stream, last_event_id=place) as reader:
            assert reader.ears.names() == ["reset"] + ["job"] * 9 + ["ready"]

    play(story)


async def cancelled(stage: Stage) -> None:
    await stage.change("j1", status="cancelled")


async def created(stage: Stage) -> None:
    stage.tables.add_job(Job(job_id="new", status="pending"))


async def created_and_ended_at_once(stage: Stage) -> None:
    stage.tables.add_job(Job(job_id="new", status="failed", error_message="no such VM"))


async def deleted(stage: Stage) -> None:
    del stage.tables.tables.jobs["j1"]


async def written_by_another_hub(stage: Stage) -> None:
    await stage.change("j1", bytes_transferred=9, seq=4, heard_us=5, last_telemetry_at=stage.clock.wall())


async def one_disk_moved(stage: Stage) -> None:
    job = stage.tables.tables.jobs["j1"].job
    await stage.tables.run(lambda session: session.write_disks([(job, Disk(disk_index=0, bytes_transferred=3))]))


@pytest.mark.parametrize(
    ("change", "name", "job_id", "figure", "value"),
    [
        (cancelled, "job", "j1", "status", "cancelled"),
        (created, "job", "new", "status", "pending"),
        (created_and_ended_at_once, "job", "new", "status", "failed"),
        (deleted, "gone", "j1", "status", None),
        (written_by_another_hub, "job", "j1", "bytes_transferred", 9),
        (one_disk_moved, "job", "j1", "bytes_transferred", 0),
    ],
)
def test_a_change_by_another_program_is_told_within_about_a_second(
    change: Callable[[Stage], Coroutine[Any, Any, None]], name: str, job_id: str, figure: str, value: object
) -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as reader:
            await asyncio.sleep(3.3)
            await change(stage)
            await asyncio.sleep(A_SECOND)
            told = [(told.name, told.data["job_id"], told.data.get(figure)) for told in reader.ears.told[11:]]
            assert told == [(name, job_id, value)]
            await asyncio.sleep(30)
            assert len(reader.ears.told) == 12

    play(story)


def test_a_job_of_another_program_that_this_hub_hears_at_once_is_told_with_its_name() -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as reader:
            await asyncio.sleep(1.5)
            stage.tables.add_job(Job(job_id="new", status="pending"), vm_name="web1")
            await stage.say("new", bytes_transferred=1)
            await asyncio.sleep(2 * SOON)
            assert last_told(reader.ears)["new"]["vm_name"] == "web1"
            assert reader.ears.jobs()[10:] == [("new", 1)]

    play(story)


def test_while_the_database_is_away_nothing_false_is_said_and_afterwards_the_changes_go_on() -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as reader:
            await asyncio.sleep(1.5)
            for _ in range(20):
                stage.followed.fail("begin", DatabaseAway("away"))
                await asyncio.sleep(1)
            assert reader.ears.names()[11:] == []
            stage.followed.fail("begin", DatabaseAway("away"))
            with stage.stream.place(), pytest.raises(Problem, match="database is not available") as raised:
                await stage.stream.opening(None, None)
            assert raised.value.status == 503
            await stage.change("j1", status="cancelled")
            await stage.say("j2", bytes_transferred=4)
            await asyncio.sleep(A_SECOND)
            assert sorted(job_id for job_id, _ in reader.ears.jobs()[10:]) == ["j1", "j2"]
            async with following(stage.stream) as late:
                assert "j1" not in last_told(late.ears)

    play(story)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_first_look_that_fails_half_way_is_made_up_for(failing: int) -> None:
    async def story(stage: Stage) -> None:
        stage.followed.failing = failing
        with stage.stream.place(), pytest.raises(Problem, match="database"):
            await stage.stream.opening(None, None)
        await stage.say("j1", bytes_transferred=3)
        async with following(stage.stream) as reader:
            assert reader.ears.names() == ["job"] * 10 + ["ready"]
            assert last_told(reader.ears)["j1"]["bytes_transferred"] == 3

    play(story)


def test_news_from_before_a_look_that_was_made_up_for_is_not_told_after_it() -> None:
    async def story(stage: Stage) -> None:
        with stage.stream.place():
            stage.followed.failing = 2
            with pytest.raises(Problem, match="database"):
                await stage.stream.opening(None, None)
            await stage.say("j1", bytes_transferred=3)
            await stage.change("j1", bytes_transferred=9)
            async with following(stage.stream) as reader:
                await asyncio.sleep(A_SECOND)
                assert {moved for job_id, moved in reader.ears.jobs() if job_id == "j1"} == {9}

    play(story)


def test_a_job_that_falls_silent_is_told_once_and_again_when_it_is_heard() -> None:
    async def story(stage: Stage) -> None:
        await stage.say("j1")
        async with following(stage.stream) as reader:
            await asyncio.sleep(59)
            assert reader.ears.names()[11:] == []
            await asyncio.sleep(30)
            assert reader.ears.jobs("silent")[10:] == [("j1", True)]
            assert 60 <= reader.ears.jobs("silence_seconds")[10][1] <= 62
            await stage.say("j1")
            await asyncio.sleep(SOON)
            assert reader.ears.jobs("silent")[11:] == [("j1", False)]

    play(story)


def test_the_first_jobs_are_given_with_the_liveness_of_the_moment() -> None:
    async def story(stage: Stage) -> None:
        await stage.say("j1")
        async with following(stage.stream):
            await asyncio.sleep(30)
            async with following(stage.stream) as late:
                assert last_told(late.ears)["j1"]["seconds_since_heard"] == 30

    play(story)


def test_there_are_no_more_readers_than_places(caplog: pytest.LogCaptureFixture) -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream), following(stage.stream):
            with pytest.raises(Problem, match="as many readers") as raised:
                async with following(stage.stream):
                    raise AssertionError("no place was left")
            assert (raised.value.status, raised.value.headers) == (503, {"Retry-After": "5"})
            await asyncio.sleep(2)
        async with following(stage.stream) as reader:
            assert "ready" in reader.ears.names()

    play(story, Stage(max_streams=2))
    assert "readers of the stream were refused" in caplog.text


def test_a_hub_that_stops_lets_go_of_everybody_and_cuts_off_the_slow() -> None:
    async def story(stage: Stage) -> None:
        async with following(stage.stream) as quick, following(stage.stream) as slow:
            await stage.say("j1", bytes_transferred=1)
            slow.stuck = True
            await asyncio.sleep(SOON)
            stage.stream.stop()
            assert (quick.aborted, slow.aborted) == (False, True)
            with pytest.raises(Problem, match="stopping"):
                async with following(stage.stream):
                    raise AssertionError("a hub that stops takes no readers")

    play(story)


def test_a_reader_that_was_not_even_given_the_first_jobs_is_cut_off_when_the_hub_stops() -> None:
    async def story(stage: Stage) -> None:
        wire = FakeWire()
        subscriber = Subscriber(wire, None)
        with stage.stream.place(), stage.stream.subscribers.joined(subscriber):
            stage.stream.stop()
            assert wire.aborted
            await stage.stream.follow(subscriber, 0)

    play(story)


def test_a_database_that_is_slow_is_looked_at_the_less_often() -> None:
    async def story(stage: Stage) -> None:
        stage.followed.slow = 0.3
        async with following(stage.stream):
            asked = stage.followed.asked
            await asyncio.sleep(33)
            assert 9 <= stage.followed.asked - asked <= 11

    play(story)


def test_many_jobs_are_given_once_each_and_stay_within_what_a_connection_takes_at_once() -> None:
    stage = Stage()
    for n in range(3000):
        stage.tables.add_job(Job(job_id=f"many-{n}", status="running"))

    async def story(_: Stage) -> None:
        async with following(stage.stream) as reader:
            assert len({job_id for job_id, _ in reader.ears.jobs()}) == len(reader.ears.jobs()) == 3010
            for n in range(100):
                await stage.change(f"many-{n}", bytes_transferred=1)
            await asyncio.sleep(A_SECOND)
            assert len(reader.ears.told) == 3011 + 100
            asked = stage.followed.asked
            await asyncio.sleep(10)
            assert stage.followed.asked - asked <= 11
            for n in range(3000):
                await stage.change(f"many-{n}", status="cancelled")
            await asyncio.sleep(2 * A_SECOND)
            assert len(reader.ears.told) == 3011 + 100 + 3000
            assert {job["status"] for name, job in last_told(reader.ears).items() if "many" in name} == {"cancelled"}

    play(story, stage)
