"""Numbers that grow whatever the clocks do."""

from sbc_daemon.sequence import STEP, Sequence, keep_ceiling
from telemetry_common.contract import MAX_SEQ
from testbed.memory_disk import MemoryDisk
from testbed.memory_outbox import MemoryOutbox
from tests.support.virtual_clock import VirtualClock


def test_a_number_is_the_unix_time_in_microseconds() -> None:
    assert Sequence(VirtualClock(wall=1_760_000_000.25)).next() == 1_760_000_000_250_000


def test_numbers_grow_within_the_same_microsecond() -> None:
    sequence = Sequence(VirtualClock())
    first = sequence.next()
    assert [sequence.next(), sequence.next()] == [first + 1, first + 2]


def test_numbers_grow_when_the_clock_is_set_back() -> None:
    clock = VirtualClock()
    sequence = Sequence(clock)
    first = sequence.next()
    clock.stepped = -86_400.0
    assert sequence.next() == first + 1


def test_after_a_restart_numbers_are_above_the_kept_ceiling() -> None:
    clock = VirtualClock()
    ceiling = int(clock.wall() * 1e6) + 5 * STEP
    assert Sequence(clock, ceiling).next() == ceiling + 1


def test_the_hubs_stored_number_is_gone_above() -> None:
    sequence = Sequence(VirtualClock())
    stored = sequence.next() + 10**12
    sequence.raise_above(stored)
    assert sequence.next() == stored + 1


def test_a_lower_or_absurd_stored_number_changes_nothing() -> None:
    sequence = Sequence(VirtualClock())
    last = sequence.next()
    sequence.raise_above(5)
    sequence.raise_above(MAX_SEQ)
    assert sequence.next() == last + 1


def test_one_jobs_nonsense_at_the_hub_does_not_use_up_the_numbers_of_all() -> None:
    sequence = Sequence(VirtualClock())
    last = sequence.next()
    sequence.raise_above(MAX_SEQ - 1)
    assert sequence.next() == last + 1


async def test_the_ceiling_is_kept_ahead_of_use_and_once_in_a_while_only() -> None:
    clock = VirtualClock()
    outbox = MemoryOutbox(disk=(disk := MemoryDisk()))
    sequence = Sequence(clock)
    writes = set()
    for _ in range(240):
        await keep_ceiling(sequence, outbox)
        assert sequence.next() < disk.ceiling
        writes.add(disk.ceiling)
        clock.now += 1.0
    assert 4 <= len(writes) <= 9


async def test_numbers_grow_across_a_power_cut_with_the_clock_set_back() -> None:
    clock = VirtualClock()
    disk = MemoryDisk()
    outbox = MemoryOutbox(disk=disk)
    sequence = Sequence(clock, (await outbox.open()).seq_ceiling)
    await keep_ceiling(sequence, outbox)
    before = sequence.next()
    disk.power_cut()
    clock.stepped = -3600.0
    opened = await MemoryOutbox(disk=disk).open()
    assert Sequence(clock, opened.seq_ceiling).next() > before


def test_two_lives_that_find_the_same_ceiling_give_out_different_numbers() -> None:
    clock = VirtualClock()
    ceiling = int(clock.wall() * 1e6) + 3600 * 1_000_000
    lives = [Sequence(clock, ceiling, leap) for leap in (5, 1000)]
    numbers = [{sequence.next() for _ in range(100)} for sequence in lives]
    assert not numbers[0] & numbers[1]
    assert min(numbers[0] | numbers[1]) > ceiling
