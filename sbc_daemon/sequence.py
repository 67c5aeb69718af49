"""The numbers of messages: `seq` is max(previous + 1, Unix time in microseconds). No I/O but for `keep_ceiling`.

So that it grows across power cuts and set-back clocks too, a ceiling is kept in the outbox, raised in steps ahead of
use: after a start numbers go on above it. Where even that is lost, the hub's answer says what to go above.
"""

from sbc_daemon.outbox import Outbox
from telemetry_common.clock import Clock
from telemetry_common.contract import MAX_SEQ

CREDIBLE = MAX_SEQ // 2
"""No clock and no number of messages leads beyond it. A disk that gives back another bit does, and above MAX_SEQ the
hub would refuse every message for good."""
STEP = 60_000_000
"""How far the kept ceiling is ahead, in microseconds: one synced write a minute."""


class Sequence:
    """One for all jobs of a daemon. `ceiling` is what the outbox had kept; one that cannot be is as good as lost.

    `leap`, less than STEP, is left out above it: with the clock set back and a full disk, which takes no other ceiling,
    two lives would begin at one number, and the hub take the news of the second for a message that it has had.
    """

    def __init__(self, clock: Clock, ceiling: int = 0, leap: int = 0) -> None:
        ceiling = ceiling if ceiling <= CREDIBLE else 0
        self._clock = clock
        self._last = ceiling + leap
        self._ceiling = ceiling

    def next(self) -> int:
        """Greater than every number before it, also those before a restart. Call `keep_ceiling` first."""
        self._last = self._upcoming()
        return self._last

    def raise_above(self, seq: int) -> None:
        """The hub holds `seq`: whatever comes next is greater, unless no clock leads there.

        Near MAX_SEQ the numbers would run out, and those of all jobs with them, for what one has stored.
        """
        if seq <= CREDIBLE:
            self._last = max(self._last, seq)

    def ceiling_wanted(self) -> int | None:
        """The ceiling to keep before more numbers are given out; None while the kept one is far enough ahead."""
        upcoming = self._upcoming()
        return upcoming + STEP if upcoming + STEP // 2 > self._ceiling else None

    def ceiling_kept(self, ceiling: int) -> None:
        self._ceiling = max(self._ceiling, ceiling)

    def _upcoming(self) -> int:
        return max(self._last + 1, int(self._clock.wall() * 1_000_000))


async def keep_ceiling(sequence: Sequence, outbox: Outbox) -> None:
    """Have the ceiling kept ahead of the numbers that are used next. Raises OutboxFull.

    A caller may go on all the same when the disk is full: the hub's `stale` answer repairs what that can cost.
    """
    wanted = sequence.ceiling_wanted()
    if wanted is not None:
        await outbox.raise_ceiling(wanted)
        sequence.ceiling_kept(wanted)
