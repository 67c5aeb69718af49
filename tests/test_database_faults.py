"""What breaks in the middle of a transaction: one suite for MariaDB and the in-memory twin.

Lost connections, lost answers, a COMMIT that comes late, deadlocks, a killed server.
"""

import pytest

from sha_daemon.database import DatabaseAway, DatabaseConflict, RowLocked
from testbed.memory_database import When
from tests.support.databases import stored
from tests.support.peopled import all_of_it, done, everything, peopled, said
from tests.support.troubled import Troubled


@pytest.mark.parametrize("when", ["begin", "commit"])
async def test_of_a_transaction_whose_connection_is_lost_before_the_commit_there_is_nothing(
    troubled: Troubled, when: When
) -> None:
    before = await all_of_it(await peopled(troubled))
    await troubled.lose(when)
    with pytest.raises(DatabaseAway):
        await troubled.database.run(everything)
    assert await all_of_it(troubled) == before
    await troubled.database.run(everything)
    assert done(await all_of_it(troubled))


async def test_a_transaction_of_which_only_the_answer_is_lost_is_done_for_good(troubled: Troubled) -> None:
    await peopled(troubled)
    await troubled.lose("answer")
    with pytest.raises(DatabaseAway):
        await troubled.database.run(everything)
    assert done(await all_of_it(troubled))


@pytest.mark.parametrize(("when", "again"), [("begin", "applied"), ("commit", "applied"), ("answer", "duplicate")])
async def test_a_message_that_is_sent_again_after_a_lost_connection_counts_once(
    troubled: Troubled, when: When, again: str
) -> None:
    await peopled(troubled)
    message = said(7, bytes_transferred=70, disks=[{"disk_index": 3, "status": "running"}])
    await troubled.lose(when)
    with pytest.raises(DatabaseAway):
        await troubled.database.run(message)
    assert (await troubled.database.run(message)).result == again
    job = await stored(troubled)
    assert (job.seq, job.bytes_transferred, [disk.disk_index for disk in job.disks]) == (7, 70, [0, 3])
    assert [seq for seq, _, _ in troubled.history("job-1")] == [1, 7]


async def test_the_victim_of_a_deadlock_is_undone_as_a_whole_and_succeeds_the_next_time(troubled: Troubled) -> None:
    before = await all_of_it(await peopled(troubled))
    with pytest.raises(DatabaseConflict):
        await troubled.deadlock(everything)
    assert await all_of_it(troubled) == before
    await troubled.database.run(everything)
    assert done(await all_of_it(troubled))


async def test_a_killed_server_has_all_that_was_committed_and_nothing_of_the_rest(troubled: Troubled) -> None:
    await peopled(troubled)
    await troubled.database.run(everything)
    await troubled.other.run(said(7, bytes_transferred=70))
    await troubled.lose("answer")
    with pytest.raises(DatabaseAway):
        await troubled.database.run(said(8, status="completed", bytes_transferred=80))
    before = await all_of_it(troubled)
    with pytest.raises(DatabaseAway):
        await troubled.kill(everything)
    assert await all_of_it(troubled) == before
    job = await stored(troubled)
    assert (job.seq, job.status, job.bytes_transferred) == (8, "completed", 80)
    assert [seq for seq, _, _ in troubled.history("job-1")] == [5, 7, 8]
    assert (await troubled.other.run(said(8))).result == "duplicate"


@pytest.mark.usefixtures("at_once")
async def test_a_commit_that_arrives_behind_its_lost_connection_lets_nobody_in_between(troubled: Troubled) -> None:
    await peopled(troubled)
    message = said(7, bytes_transferred=70)
    with pytest.raises(DatabaseAway):
        await troubled.late(message, "job-1")
    assert (await stored(troubled)).seq is None
    for database in (troubled.database, troubled.other):
        with pytest.raises(RowLocked):
            await database.run(message)
    await troubled.arrive()
    assert (await stored(troubled)).bytes_transferred == 70
    assert (await troubled.other.run(message)).result == "duplicate"
    assert [seq for seq, _, _ in troubled.history("job-1")] == [1, 7]
