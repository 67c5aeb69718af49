"""How long samples are kept, and how gently they are let go. Pure."""

import math

DAY_SECONDS = 86_400


def cutoff(now: float, retention_days: int) -> float:
    """Samples with an event time before this (whole Unix seconds) have been kept for long enough."""
    return math.floor(now) - retention_days * DAY_SECONDS


def rest_seconds(step_seconds: float) -> float:
    """After a step that took so long: at most a quarter of the time is spent on pruning, however slow the disk."""
    return max(0.05, 3 * step_seconds)
