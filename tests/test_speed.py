import pytest

from sbc_daemon.speed import MAX_RATE, SpeedWindow, eta


def window(*samples: tuple[float, int]) -> SpeedWindow:
    speed = SpeedWindow()
    for at, count in samples:
        speed.sample(at, count)
    return speed


def test_a_steady_copy_has_its_pace() -> None:
    speed = window(*((second, second * 100) for second in range(60)))
    assert speed.rate(59, 5900) == 100


def test_there_is_no_rate_before_it_means_something() -> None:
    assert window().rate(10, 0) is None
    assert window((0, 0)).rate(2.9, 1000) is None


def test_a_job_met_in_the_middle_starts_counting_there() -> None:
    assert window((0, 40_000_000)).rate(4, 40_000_400) == 100


def test_a_change_of_pace_shows_fully_after_the_window() -> None:
    samples = [(t, t * 100) for t in range(30)] + [(30 + t, 3000 + t * 10) for t in range(16)]
    assert window(*samples).rate(45, 3150) == 10


def test_standing_still_becomes_zero() -> None:
    assert window((0, 0), (1, 1000)).rate(60, 1000) == 0


def test_a_burst_after_a_long_silence_is_seen_within_the_window() -> None:
    speed = window((0, 0), (600, 0), (605, 5000))
    assert speed.rate(610, 10_000) == pytest.approx(10_000 / 15, abs=1)


def test_memory_does_not_grow_with_the_length_of_the_job() -> None:
    speed = window(*((float(t), t) for t in range(100_000)))
    assert len(speed._samples) < 20


def test_an_absurd_rate_stays_within_the_contract() -> None:
    assert window((0, 0), (0.001, 2**63 - 1)).rate(3, 2**63 - 1) is not None
    assert window((0, 0)).rate(3, 2**70) == MAX_RATE


@pytest.mark.parametrize(
    ("done", "total", "rate", "expected"),
    [
        (0, 1000, 100, 10),
        (1, 1000, 100, 10),
        (500, 1000, None, None),
        (500, 1000, 0, None),
        (500, 0, 100, None),
        (1000, 1000, None, 0),
        (1200, 1000, 100, 0),
    ],
)
def test_the_eta_is_left_out_until_it_means_something(
    done: int, total: int, rate: int | None, expected: int | None
) -> None:
    assert eta(done, total, rate) == expected
