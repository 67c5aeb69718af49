"""Speed and time of arrival of copies of every kind, as they would be shown second by second."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbc_daemon.speed import MAX_RATE, UNKNOWN, WINDOW_SECONDS, Pace, SpeedWindow, eta

Heard = tuple[float, int]


class Copy:
    """A job as the tracker follows it: `hears` for each line, `shows` at any time."""

    def __init__(self, first: Heard, *heard: Heard) -> None:
        self.speed = SpeedWindow()
        self.last = first
        for at, count in heard:
            self.hears(at, count)

    def hears(self, at: float, count: int) -> None:
        if at >= self.speed.next_at:
            self.speed.sample(*self.last)
        self.last = (at, count)

    def shows(self, now: float | None = None) -> Pace:
        at, count = self.last
        return self.speed.pace(at if now is None else now, count, at)


def rates(heard: Iterable[Heard]) -> list[int]:
    """What is shown with each line, once it means something."""
    first, *others = heard
    copy, shown = Copy(first), list[int]()
    for at, count in others:
        copy.hears(at, count)
        rate = copy.shows().rate
        if rate is not None:
            shown.append(rate)
    return shown


def every(seconds: float, bytes_each: int, length: float) -> list[Heard]:
    return [(step * seconds, step * bytes_each) for step in range(int(length / seconds))]


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.0, 2.5, 30.0, 120.0])
def test_a_steady_copy_has_its_pace_however_often_it_is_told(seconds: float) -> None:
    assert set(rates(every(seconds, round(1000 * seconds), 600))) == {1000}


def test_nothing_is_said_before_it_means_something() -> None:
    assert Copy((0, 0)).shows(2.9) == UNKNOWN
    assert Copy((0, 0), (2.9, 1000)).shows() == UNKNOWN
    assert Copy((0, 0), (3.0, 3000)).shows() == Pace(1000, steady=True)


def test_a_job_met_in_the_middle_starts_counting_there() -> None:
    assert Copy((0, 40_000_000), (4, 40_000_400)).shows().rate == 100


def test_a_change_of_pace_shows_fully_after_the_window() -> None:
    before, after = every(1, 100, 30), [(30.0 + t, 3000 + t * 10) for t in range(16)]
    assert rates([*before, *after])[-1] == 10


def test_a_change_of_pace_comes_in_step_by_step() -> None:
    after = [(30 + t / 2, 30_000 + t * 50) for t in range(40)]
    shown = rates([*every(0.5, 500, 30), *after])
    assert all(before >= now for before, now in pairwise(shown))
    assert max(before - now for before, now in pairwise(shown)) < 1000 * 0.06


@pytest.mark.parametrize("last", [10.0, 10.5, 10.99])
def test_when_bytes_stop_the_speed_is_zero_after_the_window_and_the_arrival_unknown_before(last: float) -> None:
    copy = Copy(*every(0.5, 50_000_000, 10), (last, 1_100_000_000))
    assert copy.shows(last + 4).steady
    assert not copy.shows(last + 5.1).steady
    assert copy.shows(last + WINDOW_SECONDS) == Pace(0, steady=False)
    assert copy.shows(last + 3600) == Pace(0, steady=False)


def test_it_makes_no_difference_whether_a_stalled_producer_goes_on_talking() -> None:
    silent, talking = Copy(*every(0.5, 500, 20)), Copy(*every(0.5, 500, 20))
    for half in range(41, 60):
        talking.hears(half / 2, silent.last[1])
    assert [talking.shows(now) for now in (29.5, 40)] == [silent.shows(now) for now in (29.5, 40)]


def test_a_copy_that_resumes_has_an_arrival_again_when_the_stall_is_nearly_out_of_sight() -> None:
    copy = Copy(*every(0.5, 500, 20), (80.0, 19_500))
    shown = []
    for half in range(1, 31):
        copy.hears(80 + half / 2, 19_500 + half * 500)
        shown.append(copy.shows())
    first = next(number for number, pace in enumerate(shown) if pace.steady)
    assert 8 <= first / 2 <= 11
    assert all(700 <= (pace.rate or 0) <= 1000 for pace in shown[first:])
    assert shown[-1].rate == 1000


@pytest.mark.parametrize(("seconds", "ripple"), [(1.0, 0.02), (2.0, 0.04), (4.0, 0.10), (5.0, 0.15)])
def test_a_copy_in_bursts_has_a_calm_pace(seconds: float, ripple: float) -> None:
    """Told twice a second: `seconds` of nothing, then all of it at once."""
    heard = [(half / 2, int(half / 2 // seconds) * int(1e6 * seconds)) for half in range(600)]
    shown = rates(heard)[60:]
    assert min(shown) > 1e6 * (1 - ripple)
    assert max(shown) < 1e6 * (1 + ripple)


def test_the_arrival_of_a_copy_in_bursts_does_not_jump() -> None:
    copy, shown, total = Copy((0, 0)), list[int](), 10**9
    for half in range(600):
        copy.hears(half / 2, int(half / 2 // 3) * 3_000_000)
        pace = copy.shows()
        seconds = eta(copy.last[1], total, pace.rate if pace.steady else None)
        if half > 60:
            assert seconds is not None
            shown.append(seconds)
    assert max(abs(now - before) / before for before, now in pairwise(shown)) < 0.06


def test_a_tool_that_tells_a_percent_in_minutes_is_not_taken_for_stalled_in_between() -> None:
    copy = Copy(*every(100.0, 10**9, 1000))
    last = copy.last[0]
    assert {copy.shows(last + after) for after in (0, 5, 50, 100)} == {Pace(10**7, steady=True)}
    assert copy.shows(last + 100 + WINDOW_SECONDS).rate == 0


def test_a_growth_that_took_hours_is_not_believed_in_for_hours() -> None:
    assert Copy((0, 0), (7200, 10**9)).shows(7200 + 300 + WINDOW_SECONDS).rate == 0


def test_a_burst_after_a_long_silence_is_seen_within_the_window() -> None:
    copy = Copy((0, 0), (600, 0), (605, 5000), (610, 10_000))
    assert 10_000 / 15 < (copy.shows().rate or 0) < 1000


def test_what_comes_after_a_long_silence_is_spread_over_it() -> None:
    assert Copy((0, 0), (1, 0), (1001, 10**6)).shows().rate == 1000


def test_memory_does_not_grow_with_the_length_of_the_job() -> None:
    copy = Copy(*((t / 10, t) for t in range(100_000)))
    assert len(copy.speed._samples) < 20


def test_an_absurd_rate_stays_within_the_contract() -> None:
    assert Copy((0, 0), (0.001, 2**63 - 1)).shows(3).rate is not None
    assert Copy((0, 0), (3, 2**70)).shows().rate == MAX_RATE


@pytest.mark.parametrize(
    ("done", "total", "rate", "expected"),
    [
        (0, 1000, 100, 10),
        (1, 1000, 100, 10),
        (500, 1000, None, None),
        (500, 1000, 0, None),
        (500, 0, 100, None),
        (0, 0, None, None),
        (1000, 1000, None, 0),
        (1200, 1000, 100, None),  # the total was wrong: who knows how wrong
    ],
)
def test_the_eta_is_left_out_until_it_means_something(
    done: int, total: int, rate: int | None, expected: int | None
) -> None:
    assert eta(done, total, rate) == expected


_heard = st.lists(st.tuples(st.floats(0, 200), st.integers(0, 2**50)), min_size=1, max_size=60)


@settings(max_examples=300, deadline=None)
@given(_heard, st.floats(0, 1000))
def test_the_rate_is_never_faster_than_the_fastest_stretch_nor_below_zero(steps: list[Heard], later: float) -> None:
    copy, now, count, fastest = Copy((0, 0)), 0.0, 0, 0.0
    for seconds, more in steps:
        now, count = now + max(seconds, 0.5), count + more
        fastest = max(fastest, more / max(seconds, 0.5))
        copy.hears(now, count)
    rate = copy.shows(now + later).rate
    assert rate is None or 0 <= rate <= fastest * 1.001 + 1


@settings(max_examples=100, deadline=None)
@given(_heard, st.floats(0, 2000), st.floats(0.001, 0.5))
def test_between_two_lines_the_rate_only_falls_and_never_jumps(steps: list[Heard], later: float, dt: float) -> None:
    copy, now, count = Copy((0, 0)), 0.0, 0
    for seconds, more in steps:
        now, count = now + max(seconds, 1.0), count + more
        copy.hears(now, count)
    before, after = copy.shows(now + later).rate, copy.shows(now + later + dt).rate
    if before is not None and after is not None and now >= WINDOW_SECONDS:
        fastest = max((more / max(seconds, 1.0) for seconds, more in steps), default=0)
        assert abs(after - before) <= fastest * 0.2 * dt + 2
