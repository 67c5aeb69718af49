"""What every outbox promises: one suite over the one on disk and its twin in memory."""

from contextlib import suppress

import pytest

from sbc_daemon import outbox_room
from sbc_daemon.outbox import Entry, Outbox, OutboxFull, StateDirectoryHeld
from tests.support.balance import assert_balanced
from tests.support.messages import end, message, progress, record
from tests.support.outboxes import MIB, Make, make, outbox

__all__ = ["make", "outbox"]


async def drain(outbox: Outbox, job: str = "job-1") -> list[tuple[str, int]]:
    """What the job's lane sends, in order."""
    sent: list[tuple[str, int]] = []
    while entry := await outbox.first(job):
        sent.append((entry.message.kind, entry.message.seq))
        await outbox.delivered(entry)
    return sent


async def test_states_leave_in_their_order_and_before_progress(outbox: Outbox) -> None:
    await outbox.keep([message(1), message(2)], [], synced=True)
    await outbox.keep([progress(3)], [], synced=False)
    assert await drain(outbox) == [("state", 1), ("state", 2), ("progress", 3)]


async def test_a_kept_message_comes_back_as_it_was(outbox: Outbox) -> None:
    kept = message(7, at=12.5, done=2**63 - 1, phase='fin"al\n☃')
    await outbox.keep([kept], [], synced=True)
    entry = await outbox.first("job-1")
    assert entry is not None
    assert entry.message == kept


async def test_several_lanes_are_asked_and_emptied_together(outbox: Outbox) -> None:
    await outbox.keep([message(1, job="a"), message(2, job="a"), progress(3, "b")], [], synced=True)
    a, nothing, b = await outbox.firsts(["a", "none", "b"], MIB)
    assert isinstance(a, Entry)
    assert isinstance(b, Entry)
    assert (a.message.seq, nothing, b.message.seq) == (1, None, 3)
    await outbox.delivered(a, b)
    left = await outbox.firsts(["a", "none", "b"], MIB)
    assert [first.message.seq if isinstance(first, Entry) else first for first in left] == [2, None, None]
    assert await outbox.waiting() == ["a"]


async def test_lanes_are_asked_only_as_far_as_their_messages_fit(outbox: Outbox) -> None:
    await outbox.keep([message(n, job=f"j{n}", size=2000) for n in range(5)], [], synced=True)
    jobs = [f"j{n}" for n in range(5)]
    assert len(await outbox.firsts(jobs, 3 * 2000)) == 2
    assert len(await outbox.firsts(jobs, 0)) == 1
    assert len(await outbox.firsts(jobs, MIB)) == 5
    assert await outbox.firsts([], MIB) == []


async def test_of_progress_only_the_newest_is_kept(outbox: Outbox) -> None:
    await outbox.keep([progress(1, at=0)], [], synced=False)
    for seq in range(2, 20):
        await outbox.keep([progress(seq, at=seq)], [], synced=False)
    figures = await outbox.figures()
    assert (figures.progress, figures.samples) == (1, 1)
    assert (await drain(outbox))[0] == ("progress", 19)


async def test_replaced_progress_leaves_one_sample_a_minute_sent_last(outbox: Outbox) -> None:
    for seq in range(1, 62):
        await outbox.keep([progress(seq, at=seq * 5.0)], [], synced=False)
    sent = await drain(outbox)
    assert sent == [("progress", 61), *(("sample", seq) for seq in (1, 13, 25, 37, 49))]


async def test_a_state_overtakes_progress_that_was_not_delivered(outbox: Outbox) -> None:
    await outbox.keep([progress(1)], [], synced=False)
    await outbox.keep([message(2)], [], synced=True)
    assert await drain(outbox) == [("state", 2), ("sample", 1)]


async def test_progress_replaced_while_under_way_keeps_the_newer(outbox: Outbox) -> None:
    await outbox.keep([progress(1, at=0)], [], synced=False)
    await outbox.keep([progress(2, at=1)], [], synced=False)
    under_way = await outbox.first("job-1")
    assert under_way is not None
    await outbox.keep([progress(3, at=2)], [], synced=False)
    await outbox.delivered(under_way)
    entry = await outbox.first("job-1")
    assert entry is not None
    assert entry.message.seq == 3


async def test_nothing_leaves_before_it_is_delivered(outbox: Outbox) -> None:
    await outbox.keep([message(1)], [], synced=True)
    assert await outbox.first("job-1") == await outbox.first("job-1") is not None


async def test_lanes_are_apart(outbox: Outbox) -> None:
    await outbox.keep([message(1, job="a"), message(2, job="A"), message(3, job="b")], [], synced=True)
    assert await drain(outbox, "a") == [("state", 1)]
    assert await outbox.waiting() == ["A", "b"]


async def test_a_restart_finds_messages_records_and_ceiling(make: Make) -> None:
    before = make()
    await before.open()
    await before.keep([message(1, job="a"), end(2, "b")], [record("a"), record("b", ended=True)], synced=True)
    await before.raise_ceiling(500)
    await before.raise_ceiling(400)
    await before.close()
    after = make()
    opened = await after.open()
    assert opened.waiting == ("a", "b")
    assert {(job.job_id, job.ended) for job in opened.jobs} == {("a", False), ("b", True)}
    assert (opened.seq_ceiling, opened.moved_aside) == (500, None)
    await after.close()


async def test_what_belongs_to_descriptors_is_remembered_until_they_are_gone(make: Make) -> None:
    first = make()
    await first.open()
    await first.remember({"connection-1": b"one", "process-2": b"two"}, [])
    await first.remember({"connection-1": b"other"}, ["process-2", "never there"])
    await first.close()
    again = make()
    assert (await again.open()).survivors == {"connection-1": b"other"}
    await again.close()


async def test_at_the_cap_nothing_more_is_remembered_and_what_is_gone_still_goes(outbox: Outbox) -> None:
    await outbox.remember({"connection-1": b"one"}, [])
    with pytest.raises(OutboxFull, match="cap"):
        await outbox.remember({"connection-2": bytes(MIB)}, ["connection-1"])
    await outbox.remember({}, ["connection-1"])


async def test_a_new_outbox_is_empty(outbox: Outbox) -> None:
    assert await outbox.first("job-1") is None
    assert await outbox.waiting() == []
    assert (await outbox.figures()).oldest_wall is None


async def test_ended_jobs_are_remembered_up_to_a_bound(make: Make) -> None:
    outbox = make(16 * MIB)
    await outbox.open()
    many = outbox_room.ENDED_RECORDS + 128
    await outbox.keep([], [record(f"j{n}", ended=True, snapshot=b"") for n in range(many)], synced=False)
    await outbox.close()
    again = make(16 * MIB)
    remembered = {job.job_id for job in (await again.open()).jobs}
    assert len(remembered) == outbox_room.ENDED_RECORDS
    assert f"j{many - 1}" in remembered
    assert "j0" not in remembered
    await again.close()


async def test_a_renumbered_entry_keeps_its_place(outbox: Outbox) -> None:
    await outbox.keep([message(1), message(2)], [], synced=True)
    entry = await outbox.first("job-1")
    assert entry is not None
    await outbox.renumber([(entry, 99)])
    renumbered = await outbox.first("job-1")
    assert renumbered is not None
    assert (renumbered.entry_id, renumbered.message.seq) == (entry.entry_id, 99)
    assert await drain(outbox) == [("state", 99), ("state", 2)]


async def test_a_rejected_message_is_a_dead_letter_with_the_hubs_reason(outbox: Outbox) -> None:
    await outbox.keep([message(1), message(2)], [], synced=True)
    entry = await outbox.first("job-1")
    assert entry is not None
    await outbox.reject(entry, 400, "400 `status` is missing", 1_760_000_001.0)
    (letter,) = await outbox.dead_letters()
    assert (letter.job_id, letter.seq, letter.status, letter.reason) == ("job-1", 1, 400, "400 `status` is missing")
    assert b'"seq":1' in letter.body
    assert await drain(outbox) == [("state", 2)]


async def test_figures_count_what_waits(outbox: Outbox) -> None:
    await outbox.keep([message(1, at=5), progress(2, "b", at=6)], [], synced=True)
    figures = await outbox.figures()
    assert (figures.states, figures.progress, figures.samples, figures.dead_letters) == (1, 1, 0, 0)
    assert figures.oldest_wall == 1_760_000_005.0
    assert figures.bytes_used > 0


async def test_a_second_holder_is_refused_clearly(make: Make, outbox: Outbox) -> None:
    second = make()
    with pytest.raises(StateDirectoryHeld, match=r"cannot use .* another"):
        await second.open()


async def fill(outbox: Outbox) -> int:
    """States of ever new jobs until one is refused; how many were kept."""
    for n in range(10_000):
        try:
            await outbox.keep([message(n + 1, job=f"filler-{n}", size=500)], [], synced=False)
        except OutboxFull:
            return n
    raise AssertionError("the cap never came")


async def test_at_the_cap_new_states_are_refused_with_the_reason_and_ends_have_a_reserve(outbox: Outbox) -> None:
    kept = await fill(outbox)
    with pytest.raises(OutboxFull, match=r"at its cap of .* MiB|at its cap"):
        await outbox.keep([message(20_000, job="new", size=500)], [], synced=True)
    await outbox.keep([message(20_001, job="filler-0")], [], synced=True)
    for n in range(50):
        await outbox.keep([end(30_000 + n, f"filler-{n}")], [], synced=True)
    figures = await outbox.figures()
    assert figures.states == kept + 51
    assert figures.bytes_used <= MIB


async def test_no_new_job_gets_into_the_reserve_beside_anothers_end(outbox: Outbox) -> None:
    await fill(outbox)
    together = [end(20_000, "filler-0"), message(20_001, job="new", size=500)]
    with pytest.raises(OutboxFull):
        await outbox.keep(together, [], synced=True)
    await outbox.keep(together[:1], [], synced=True)


async def test_a_running_job_is_no_new_one_when_its_news_is_delivered(outbox: Outbox) -> None:
    await outbox.keep([message(1, job="running")], [record("running")], synced=True)
    entry = await outbox.first("running")
    assert entry is not None
    await outbox.delivered(entry)
    await fill(outbox)
    await outbox.keep([message(20_000, job="running")], [record("running")], synced=True)


async def test_what_is_remembered_of_ended_jobs_gives_way(make: Make) -> None:
    outbox = make()
    await outbox.open()
    for n in range(200):
        kept = record(f"ended-{n}", ended=True, snapshot=bytes(10_000))
        await outbox.keep([end(n + 1, f"ended-{n}")], [kept], synced=False)
        entry = await outbox.first(f"ended-{n}")
        assert entry is not None
        await outbox.delivered(entry)
    await outbox.keep([message(1000, job="new")], [record("new")], synced=True)
    await outbox.remember({"connection-1": bytes(10_000)}, [])
    assert (await outbox.figures()).bytes_used <= MIB
    await outbox.close()
    again = make()
    remembered = {job.job_id for job in (await again.open()).jobs}
    await again.close()
    assert "ended-199" in remembered
    assert "ended-0" not in remembered


async def test_the_cap_is_kept_even_by_ends(outbox: Outbox) -> None:
    await fill(outbox)
    too_many = [end(30_000 + n, f"filler-{n}") for n in range(1500)]
    with pytest.raises(OutboxFull):
        await outbox.keep(too_many, [], synced=False)
    with suppress(OutboxFull):
        for final in too_many:
            await outbox.keep([final], [], synced=False)
    assert (await outbox.figures()).bytes_used <= MIB


async def test_samples_are_given_up_first(outbox: Outbox) -> None:
    for n in range(100):
        await outbox.keep([message(n + 1, "sample", f"charts-{n}", size=500)], [], synced=False)
    await fill(outbox)
    figures = await outbox.figures()
    assert figures.samples < 10
    assert figures.states > 100


async def test_what_was_refused_still_goes_out_from_memory_newest_only(outbox: Outbox) -> None:
    await fill(outbox)
    for seq in (20_000, 20_001):
        with pytest.raises(OutboxFull):
            await outbox.keep([message(seq, job="new", size=500)], [], synced=True)
    assert "new" in await outbox.waiting()
    assert (await outbox.figures()).in_memory == 2
    assert await drain(outbox, "new") == [("state", 20_001)]
    assert (await outbox.figures()).in_memory == 1


async def test_room_that_comes_back_is_used_and_memory_is_overtaken(outbox: Outbox) -> None:
    kept = await fill(outbox)
    with pytest.raises(OutboxFull):
        await outbox.keep([message(20_000, job="new", size=500)], [], synced=True)
    for n in range(kept // 2):
        await drain(outbox, f"filler-{n}")
    await outbox.keep([message(20_001, job="new")], [], synced=True)
    assert await drain(outbox, "new") == [("state", 20_001)]


async def test_refused_news_overtakes_progress_on_the_disk(outbox: Outbox) -> None:
    await outbox.keep([progress(1, "new")], [], synced=False)
    await fill(outbox)
    with pytest.raises(OutboxFull):
        await outbox.keep([progress(20_000, "new", size=500)], [], synced=False)
    assert await drain(outbox, "new") == [("progress", 20_000)]


async def test_progress_that_was_overtaken_from_memory_does_not_come_back(make: Make) -> None:
    outbox = make()
    await outbox.open()
    await outbox.keep([progress(1, "new")], [], synced=True)
    await fill(outbox)
    with pytest.raises(OutboxFull):
        await outbox.keep([progress(20_000, "new", size=500)], [], synced=False)
    assert await drain(outbox, "new") == [("progress", 20_000)]
    assert "new" not in await outbox.waiting()
    await assert_balanced(outbox)
    await outbox.close()
    again = make()
    await again.open()
    assert await again.first("new") is None
    await again.close()


async def test_dead_letters_take_no_more_than_their_share(outbox: Outbox) -> None:
    for n in range(1, 200):
        await outbox.keep([message(n, size=5000)], [], synced=False)
        entry = await outbox.first("job-1")
        assert entry is not None
        await outbox.reject(entry, 400, "400 no", 0.0)
    letters = await outbox.dead_letters()
    assert letters[-1].seq == 199
    assert sum(len(letter.body) for letter in letters) <= MIB * outbox_room.DEAD_LETTERS_SHARE
