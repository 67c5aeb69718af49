"""The watchdog's rule: fresh, silent, lost, and the words for it."""

import pytest

from sha_daemon.silence import Thresholds, idle, judge, message, reading_before

AFTER_60_AND_300 = Thresholds(warn=60, fail=300)


@pytest.mark.parametrize(
    ("heard", "reading", "standing"),
    [
        (0, 0, "fresh"),
        (0, 60.0, "fresh"),
        (0, 60.001, "silent"),
        (0, 300.0, "silent"),
        (0, 300.001, "lost"),
        (1000, 1030, "fresh"),
        (1000, 900, "fresh"),
    ],
)
def test_standing(heard: float, reading: float, standing: str) -> None:
    assert judge(int(heard * 1e6), int(reading * 1e6), AFTER_60_AND_300).standing == standing


@pytest.mark.parametrize(("idle_seconds", "is_idle"), [(None, False), (0, False), (60, False), (61, True)])
def test_a_producer_that_has_said_nothing_for_longer_than_a_job_may_be_silent_is_idle(
    idle_seconds: int | None, is_idle: bool
) -> None:
    assert idle(idle_seconds, AFTER_60_AND_300) is is_idle


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (312, "5m12s"),
        (300, "5m0s"),
        (3601, "1h0m1s"),
        (93780, "26h3m0s"),
        (311.6, "5m12s"),
        (3723, "1h2m3s"),
        (59, "59s"),
    ],
)
def test_the_message_prints_the_silence_as_go_does(seconds: float, shown: str) -> None:
    assert message(seconds) == f"Job stalled - no telemetry for {shown} (SBC may have crashed)"


def test_the_index_bound_agrees_with_the_rule() -> None:
    bound = reading_before(400_000_000, 300)
    assert judge(bound - 1, 400_000_000, AFTER_60_AND_300).standing == "lost"
    assert judge(bound, 400_000_000, AFTER_60_AND_300).standing == "silent"
