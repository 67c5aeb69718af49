"""How long to wait before the next attempt. No I/O: the random source is handed in.

Full jitter, so that a thousand jobs do not come back in step.
"""

import random

RETRY_SECONDS = (0.5, 30.0)
HOLD_SECONDS = (30.0, 300.0)
PROBE_SECONDS = (0.25, 5.0)
"""While the link is down one request at a time asks for the hub; the cap is what a returned hub waits at most."""


def retry_delay(attempt: int, rng: random.Random) -> float:
    """After the `attempt`-th failure in a row (1, 2, ...), in seconds."""
    return _jittered(RETRY_SECONDS, attempt, rng)


def hold_delay(attempt: int, rng: random.Random) -> float:
    """After an answer that time alone will hardly change, in seconds."""
    return _jittered(HOLD_SECONDS, attempt, rng)


def probe_delay(attempt: int, rng: random.Random) -> float:
    """Between two requests while the link is down, in seconds."""
    return _jittered(PROBE_SECONDS, attempt, rng)


def _jittered(limits: tuple[float, float], attempt: int, rng: random.Random) -> float:
    """Anything from the least delay to a ceiling that doubles with each attempt up to the greatest."""
    least, greatest = limits
    ceiling = min(greatest, least * 2.0 ** min(attempt, 60))
    return rng.uniform(least, ceiling)
