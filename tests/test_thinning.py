"""Which samples a chart keeps: the rule, on histories of every shape."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sha_daemon.records import Sample
from sha_daemon.thinning import MAX_POINTS, evenly, thin
from tests.support.samples import sample, series


def speeds(samples: list[Sample]) -> list[int]:
    return [sample.transfer_speed_bps for sample in samples]


def changes(samples: list[Sample]) -> list[tuple[float, str]]:
    """When which phase begins."""
    pairs = itertools.pairwise(samples)
    return [(after.at, after.current_phase) for before, after in pairs if before.current_phase != after.current_phase]


@pytest.mark.parametrize("count", [0, 1, 2, 511, 512])
def test_what_fits_stays_as_it_is(count: int) -> None:
    samples = series(range(count))
    assert thin(samples, MAX_POINTS) == samples


def test_a_long_history_fills_the_chart_and_keeps_its_order() -> None:
    samples = series(random.Random(1).choices(range(1000), k=10_000))
    thinned = thin(samples, MAX_POINTS)
    assert len(thinned) == MAX_POINTS
    assert [s.seq for s in thinned] == sorted({s.seq for s in thinned if s.seq})


def test_ends_stay() -> None:
    samples = series([5] * 1000)
    for points in (2, 3, 10, 512):
        thinned = thin(samples, points)
        assert (thinned[0], thinned[-1]) == (samples[0], samples[-1])


@pytest.mark.parametrize("length", [1, 2, 40])
@pytest.mark.parametrize("where", [1, 700, 4999, 9950])
def test_a_standstill_and_a_peak_do_not_vanish_however_short(length: int, where: int) -> None:
    values = [100] * 10_000
    values[where : where + length] = [0] * length
    values[3000] = 900
    for points in (4, 16, 512):
        assert {0, 900} <= set(speeds(thin(series(values), points)))


def test_every_standstill_shows_that_is_no_neighbour_of_another() -> None:
    standstills = range(100, 10_000, 200)
    values = [0 if n in standstills else 100 for n in range(10_000)]
    assert speeds(thin(series(values), MAX_POINTS)).count(0) == len(standstills)


def test_changes_of_phase_and_status_stay_where_they_were() -> None:
    samples = series([100] * 9000, ["snapshot", "transferring", "snapshot", "transferring", "finalizing"] * 20)
    samples.append(sample(45_000, 0, "finalizing", "completed"))
    for points in (110, 512):
        thinned = thin(samples, points)
        assert changes(thinned) == changes(samples)
        assert thinned[-1].status == "completed"


def test_a_change_back_and_forth_within_a_moment_stays() -> None:
    samples = series([100] * 5000)
    flicker = [sample(10_000 + n / 10, phase=phase) for n, phase in enumerate(["a", "b", "a", "b"])]
    both = [*samples[:2000], *flicker, *samples[2001:]]
    assert changes(thin(both, 20)) == changes(both)


def test_too_many_changes_are_thinned_evenly_and_ends_and_peaks_stay() -> None:
    values = [100] * 6000
    values[1234], values[4321] = 0, 900
    samples = series(values, ["a", "b"] * 3000)
    thinned = thin(samples, MAX_POINTS)
    assert len(thinned) == MAX_POINTS
    assert (thinned[0], thinned[-1]) == (samples[0], samples[-1])
    assert {0, 900} <= set(speeds(thinned))
    gaps = [after.at - before.at for before, after in itertools.pairwise(thinned)]
    assert max(gaps) <= 3 * 5 * 6000 / MAX_POINTS


def test_one_sample_with_a_wrong_time_does_not_squeeze_the_others() -> None:
    samples = [sample(-1_700_000_000), *series(random.Random(2).choices(range(1000), k=5000))]
    thinned = thin(samples, MAX_POINTS)
    gaps = [after.at - before.at for before, after in itertools.pairwise(thinned[1:])]
    assert max(gaps) < 3 * 5 * 5000 / (MAX_POINTS / 2)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), max_size=60),
    st.integers(2, 20),
)
def test_whatever_the_history(drawn: list[tuple[int, str]], points: int) -> None:
    samples = [sample(n, speed, phase) for n, (speed, phase) in enumerate(drawn)]
    thinned = thin(samples, points)
    assert len(thinned) == min(points, len(samples))
    assert [s.at for s in thinned] == sorted({s.at for s in thinned})
    if samples:
        assert (thinned[0], thinned[-1]) == (samples[0], samples[-1])
    if points >= 4 + len(changes(samples)):
        assert changes(thinned) == changes(samples)
    if points >= 4 and samples:
        assert {min(speeds(samples)), max(speeds(samples))} <= set(speeds(thinned))


@pytest.mark.parametrize(
    ("count", "wanted", "chosen"),
    [(3, 5, [0, 1, 2]), (10, 5, [0, 2, 4, 6, 8]), (10, 1, [0]), (10, 0, []), (0, 3, [])],
)
def test_evenly(count: int, wanted: int, chosen: list[int]) -> None:
    assert list(evenly(range(count), wanted)) == chosen
