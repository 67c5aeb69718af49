"""Delays between attempts."""

import random

import pytest

from sbc_daemon.backoff import HOLD_SECONDS, PROBE_SECONDS, RETRY_SECONDS, hold_delay, probe_delay, retry_delay


@pytest.mark.parametrize(
    ("delay", "limits"), [(retry_delay, RETRY_SECONDS), (hold_delay, HOLD_SECONDS), (probe_delay, PROBE_SECONDS)]
)
def test_delays_stay_within_their_limits_and_use_all_of_them(delay, limits) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(1)
    delays = [delay(attempt, rng) for attempt in range(1, 5000)]
    assert limits[0] <= min(delays) < limits[0] * 1.2
    assert limits[1] * 0.95 < max(delays) <= limits[1]


def test_the_ceiling_doubles_with_each_attempt() -> None:
    rng = random.Random(1)
    greatest = [max(retry_delay(attempt, rng) for _ in range(300)) for attempt in range(1, 9)]
    assert [round(seconds) for seconds in greatest] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_an_attempt_beyond_counting_is_no_overflow() -> None:
    assert retry_delay(10**9, random.Random(1)) <= RETRY_SECONDS[1]
