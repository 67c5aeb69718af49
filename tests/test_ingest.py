"""Group commit: what waits together is committed together, and no fault of one is another's."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from msgspec import convert

from sha_daemon.batch import Outcome
from sha_daemon.database import DatabaseAway, DatabaseConflict, DatabaseError, Session
from sha_daemon.ingest import Ingest
from sha_daemon.ingest_queue import MAX_QUEUED_BYTES, Busy, IngestQueue, Refused, Room, Unavailable
from sha_daemon.records import Job
from sha_daemon.shedding import Shedding
from sha_daemon.trouble import Trouble
from sha_daemon.unwritten import Unwritten
from sha_daemon.writer import Writer
from telemetry_common.contract import Update
from telemetry_common.lifecycle import Pulse
from testbed.memory_database import MemoryDatabase
from tests.support.virtual_clock import VirtualClock, run_virtual

T = TypeVar("T")


class Counting(MemoryDatabase):
    """Counts transactions, and can refuse every one that touches a certain job."""

    transactions = 0
    poisoned = ""

    async def run(self, work: Callable[[Session], T]) -> T:
        self.transactions += 1
        await asyncio.sleep(0.01)
        return await super().run(lambda session: self._refusing(session, work))

    def _refusing(self, session: Session, work: Callable[[Session], T]) -> T:
        before = self.tables.jobs.get(self.poisoned)
        result = work(session)
        if self.tables.jobs.get(self.poisoned) is not before:
            raise ValueError("a rule that throws on one row")
        return result


def update(**fields: Any) -> Update:
    return convert({"status": "running"} | fields, Update)


def with_ingest(test: Callable[[Ingest, Counting], Coroutine[Any, Any, T]], max_queue: int = 1000) -> T:
    """Run `test` beside a running writer, under the virtual clock, with jobs j0 to j9 running."""
    clock = VirtualClock()

    async def main() -> T:
        database = Counting(clock)
        for n in range(10):
            database.add_job(Job(job_id=f"j{n}", status="running"))
        queue, trouble = IngestQueue(Room(max_queue)), Trouble()
        writer = Writer(database, clock, lambda _: 0, queue, trouble, Unwritten(), Pulse("writer", 60, clock))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(writer.run())
            try:
                return await test(Ingest([writer], trouble, Shedding(clock), clock), database)
            finally:
                running.cancel()

    return run_virtual(main(), clock)


def test_what_waits_together_is_committed_together() -> None:
    async def scene(ingest: Ingest, database: Counting) -> None:
        await asyncio.gather(*(ingest.submit(f"j{n}", update(bytes_transferred=n)) for n in range(10)))
        assert database.transactions == 1
        assert database.tables.jobs["j9"].job.bytes_transferred == 9

    with_ingest(scene)


def test_each_update_of_a_job_sees_the_one_before_it() -> None:
    async def scene(ingest: Ingest, database: Counting) -> None:
        says = [update(seq=2), update(seq=1), update(status="completed", seq=3), update(seq=4)]
        outcomes = await asyncio.gather(*(ingest.submit("j1", said) for said in says))
        assert [outcome.result for outcome in outcomes] == ["applied", "stale", "applied", "final"]
        assert database.transactions == 1

    with_ingest(scene)


def test_an_unknown_job_is_answered_without_a_result() -> None:
    async def scene(ingest: Ingest, _: Counting) -> None:
        assert await ingest.submit("nobody", update()) == Outcome(result=None)

    with_ingest(scene)


def test_beyond_its_bound_the_queue_takes_nothing() -> None:
    async def scene(ingest: Ingest, _: Counting) -> None:
        first = [asyncio.ensure_future(ingest.submit(f"j{n}", update())) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await ingest.submit("j9", update())
        await asyncio.gather(*first)
        assert (await ingest.submit("j9", update())).result == "applied"

    with_ingest(scene, max_queue=3)


@pytest.mark.parametrize("error", [DatabaseConflict("deadlock"), DatabaseAway("connection lost")])
@pytest.mark.parametrize("when", ["begin", "commit", "answer"])
def test_a_conflict_or_a_lost_connection_is_tried_again(when: Any, error: DatabaseError) -> None:
    async def scene(ingest: Ingest, database: Counting) -> None:
        database.fail(when, error)
        outcome = await ingest.submit("j1", update(bytes_transferred=5, seq=1))
        assert outcome.result == ("duplicate" if when == "answer" else "applied")
        assert database.tables.jobs["j1"].job.bytes_transferred == 5

    with_ingest(scene)


def test_a_database_that_stays_away_is_told_to_everybody_and_its_return_ends_it() -> None:
    async def scene(ingest: Ingest, database: Counting) -> None:
        async def away(work: object) -> Any:
            raise DatabaseAway("no server")

        back, database.run = database.run, away  # type: ignore[method-assign]
        answers = await asyncio.gather(*(ingest.submit(f"j{n}", update()) for n in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unavailable] * 3
        assert not ingest.could_hear()
        database.run = back  # type: ignore[method-assign]
        assert (await ingest.submit("j1", update())).result == "applied"
        assert ingest.could_hear()

    with_ingest(scene)


def test_an_idle_writer_notices_by_itself_that_the_database_is_back() -> None:
    async def scene(ingest: Ingest, database: Counting) -> None:
        async def away(work: object) -> Any:
            raise DatabaseAway("no server")

        back, database.run = database.run, away  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await ingest.submit("j1", update())
        database.run = back  # type: ignore[method-assign]
        assert (ingest.could_hear(), ingest.trouble) == (False, "no server")
        await asyncio.sleep(3)
        assert (ingest.could_hear(), ingest.trouble) == (True, "")

    with_ingest(scene)


def test_bodies_that_wait_are_bounded_by_their_size_too() -> None:
    async def scene(ingest: Ingest, _: Counting) -> None:
        first = asyncio.ensure_future(ingest.submit("j1", update(), size=MAX_QUEUED_BYTES))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await ingest.submit("j2", update(), size=1)
        await first
        assert (await ingest.submit("j2", update(), size=1)).result == "applied"

    with_ingest(scene)


def test_a_job_heard_beside_a_poisoned_one_is_still_heard() -> None:
    async def scene(ingest: Ingest, database: Counting) -> None:
        database.poisoned = "j3"
        ingest.hear("j1")
        with pytest.raises(Refused):
            await ingest.submit("j3", update(bytes_transferred=1))
        await ingest.drained()
        assert database.tables.jobs["j1"].job.last_telemetry_at is not None

    with_ingest(scene)


def test_a_row_that_makes_the_batch_fail_is_found_by_splitting() -> None:
    async def scene(ingest: Ingest, database: Counting) -> None:
        database.poisoned = "j3"
        says = (ingest.submit(f"j{n}", update(bytes_transferred=1)) for n in range(10))
        answers = await asyncio.gather(*says, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Refused if n == 3 else Outcome for n in range(10)]

    with_ingest(scene)


def test_a_sender_that_gives_up_does_not_undo_its_update() -> None:
    async def scene(ingest: Ingest, database: Counting) -> None:
        task = asyncio.ensure_future(ingest.submit("j1", update(bytes_transferred=7)))
        await asyncio.sleep(0)
        task.cancel()
        await ingest.drained()
        assert database.tables.jobs["j1"].job.bytes_transferred == 7

    with_ingest(scene)


def test_a_job_heard_through_an_invalid_message_is_heard() -> None:
    async def scene(ingest: Ingest, database: Counting) -> None:
        ingest.hear("j1")
        ingest.hear("nobody")
        await asyncio.sleep(0.1)
        await ingest.drained()
        assert database.tables.jobs["j1"].job.last_telemetry_at is not None

    with_ingest(scene)


def test_draining_waits_for_everything_that_was_queued() -> None:
    async def scene(ingest: Ingest, database: Counting) -> None:
        tasks = [asyncio.ensure_future(ingest.submit(f"j{n}", update(bytes_transferred=1))) for n in range(10)]
        await asyncio.sleep(0)
        await ingest.drained()
        await asyncio.sleep(0)
        assert all(task.done() for task in tasks)
        assert database.tables.jobs["j9"].job.bytes_transferred == 1

    with_ingest(scene)


def test_a_row_that_another_program_holds_is_refused_alone_until_it_is_free() -> None:
    async def scene(ingest: Ingest, database: Counting) -> None:
        async def everybody() -> list[str]:
            posts = (ingest.submit(f"j{n}", update()) for n in range(4))
            return [type(answer).__name__ for answer in await asyncio.gather(*posts, return_exceptions=True)]

        database.hold("j2")
        assert await everybody() == ["Outcome", "Outcome", "Refused", "Outcome"]
        before = database.transactions
        assert await everybody() == ["Outcome", "Outcome", "Refused", "Outcome"]
        assert database.transactions - before == 2, "one question, and the batch without the held row"
        database.hold(None)
        assert await everybody() == ["Outcome"] * 4
        before = database.transactions
        assert await everybody() == ["Outcome"] * 4
        assert database.transactions - before == 1

    with_ingest(scene)


def test_the_answers_to_many_come_together_and_in_their_order() -> None:
    async def scene(ingest: Ingest, _: Counting) -> None:
        answers = await ingest.submit_all([("j1", update(seq=2), 1), ("nobody", update(), 1), ("j1", update(seq=1), 1)])
        assert [getattr(answer, "result", answer) for answer in answers] == ["applied", None, "stale"]

    with_ingest(scene)
