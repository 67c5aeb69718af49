"""The rule of the stale watchdog: fresh, silent or lost. Pure.

Silence is the difference of two readings of the listening clock, which counts only while the hub could hear: neither
an outage of the hub nor a stepped clock makes a job look silent.
"""

from typing import Literal

from msgspec import Struct

from telemetry_common.text import duration

Standing = Literal["fresh", "silent", "lost"]


class Thresholds(Struct, frozen=True):
    """Seconds of listened silence; over `warn` a job is silent, over `fail` it is lost."""

    warn: float
    fail: float


class Verdict(Struct, frozen=True):
    standing: Standing
    silence_seconds: float


def judge(heard_us: int, reading_us: int, thresholds: Thresholds) -> Verdict:
    """How a running job stands that was last heard at `heard_us`, now that the listening clock reads `reading_us`."""
    silence = max(0, reading_us - heard_us) / 1e6
    if silence > thresholds.fail:
        return Verdict("lost", silence)
    return Verdict("silent" if silence > thresholds.warn else "fresh", silence)


def idle(idle_seconds: int | None, thresholds: Thresholds) -> bool:
    """Whether a job that is heard only says that its producer lives, and that nothing has come from it for long.

    `idle_seconds` is what the last message said: the sidecar counts from the producer's last line.
    """
    return idle_seconds is not None and idle_seconds > thresholds.warn


def reading_before(reading_us: int, seconds: float) -> int:
    """The reading below which a job has been silent for more than `seconds`."""
    return reading_us - int(seconds * 1e6)


def message(silence_seconds: float) -> str:
    """What a failed job's `error_message` says; `silence_seconds` counts from when it was last heard."""
    return f"Job stalled - no telemetry for {duration(silence_seconds)} (SBC may have crashed)"
