"""Whether the sidecar passes on in time what it reads, and says of whom it knows that they live or have died.

What is told is what is handed to the outbox, whatever becomes of it there: neither a hub that is away nor a full disk
changes when something is said. Only the time that the disk itself takes is not the sidecar's.
"""

from collections.abc import Iterable

from msgspec import Struct

from sbc_daemon.message import Message
from simulation.loop import VirtualLoop
from simulation.promises import DEATH_TOLD, SPOKEN_OF
from simulation.story import Story

INTERVAL_SECONDS = 5.0
DEATH_SECONDS = 2.0
_SLACK_SECONDS = 3.0
"""A write that was under way, and its answer."""


class _Watch(Struct):
    """Of one job in one life of the sidecar. `since`: something is to be told since then; `died`: the end is."""

    vouched: bool = False
    since: float | None = None
    died: float | None = None


class Attention:
    """`listening` as long as a sidecar takes in what is written to it. What it owes dies with it."""

    def __init__(self, loop: VirtualLoop, story: Story) -> None:
        self._loop = loop
        self._story = story
        self._listening = False
        self._stood_still = 0.0
        self._disk = 0.0, 0.0
        self._watches: dict[str, _Watch] = {}
        self._over: set[str] = set()

    def begins(self) -> None:
        self._listening = True
        self._watches = {}

    def ends(self) -> None:
        self._listening = False

    def disk_takes(self, seconds: float) -> None:
        """One write does, from now on; the one before it is over."""
        self._stood_still += self._disk_so_far()
        self._disk = self._loop.now, self._loop.now + seconds

    def read(self, job_id: str, *, attaches: bool) -> None:
        """The sidecar reads a line about the job, from a producer that lives with it or does not."""
        if job_id not in self._over:
            watch = self._watches.setdefault(job_id, _Watch())
            watch.vouched |= attaches
            watch.since = self._now() if watch.since is None else watch.since

    def died(self, job_id: str) -> None:
        """The job's producer, without having heard that its end is safe."""
        watch = self._watches.get(job_id)
        if self._listening and watch is not None and watch.vouched and watch.died is None:
            watch.died = self._now()

    def told(self, messages: Iterable[Message]) -> None:
        """Handed to the outbox."""
        for message in messages:
            watch = self._watches.get(message.job_id)
            if watch is None:
                continue
            self._judge(message.job_id, watch)
            watch.since = self._now() if watch.vouched else None
            if message.final:
                self._over.add(message.job_id)
                del self._watches[message.job_id]

    def look(self) -> None:
        """Now and then: at what was never told."""
        if self._listening:
            for job_id, watch in self._watches.items():
                self._judge(job_id, watch)

    def _judge(self, job_id: str, watch: _Watch) -> None:
        now = self._now()
        if watch.died is not None and now - watch.died > DEATH_SECONDS + _SLACK_SECONDS:
            self._story.violate(DEATH_TOLD, job_id, f"{now - watch.died:.1f} s after it")
        if watch.since is not None and now - watch.since > INTERVAL_SECONDS + _SLACK_SECONDS:
            self._story.violate(SPOKEN_OF, job_id, f"nothing for {now - watch.since:.1f} s")

    def _now(self) -> float:
        """By a clock that stands still while the disk keeps the sidecar waiting."""
        return self._loop.now - self._stood_still - self._disk_so_far()

    def _disk_so_far(self) -> float:
        since, until = self._disk
        return min(self._loop.now, until) - since
