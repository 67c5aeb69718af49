"""What is recorded while somebody listens: which jobs have changed, what was told of them, the numbered events. Pure.

Changes come from three sides: the hub's own commits (`commit`), what a look at the tables has found (`seen`), and the
mere passing of time (`judge_silence`). They are gathered, and told together: of each job only as it is by then.

What this hub committed while a look was under way is newer than what the look has seen.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TypeVar

from msgspec import Struct, structs

from sha_daemon import stream_events
from sha_daemon.fingerprint import Fingerprint
from sha_daemon.job_json import Instant
from sha_daemon.job_types import JobType
from sha_daemon.records import Job, JobView
from sha_daemon.silence import Thresholds
from sha_daemon.stream_events import Reason
from sha_daemon.stream_mirror import Entry, Mirror, entry, names_of
from sha_daemon.stream_ring import Event, Key, Ring

T = TypeVar("T")
TOLD_AT_ONCE = 1000
"""Jobs, about 20 ms of work."""


class Snapshot(Struct, frozen=True):
    """All that was live when the event `number` was the last."""

    number: int
    jobs: list[Entry]


class Recording:
    """`epoch` names it. Nothing is told before the first look is `complete`: until then the mirror has gaps."""

    def __init__(self, epoch: str, ring: Ring, thresholds: Thresholds) -> None:
        self.epoch = epoch
        self.ring = ring
        self.mirror = Mirror()
        self.complete = False
        self.unknown: set[Key] = set()
        """Jobs that must be looked up before anything can be told of them."""
        self._thresholds = thresholds
        self._committed: dict[Key, tuple[JobType, Job]] = {}
        self._since_look: set[Key] = set()
        self._changed: dict[Key, None] = {}

    def commit(self, kind: JobType, job: Job) -> None:
        """The hub itself has just committed the job as this."""
        key = (kind.name, job.job_id)
        self._committed[key] = (kind, job)
        self._since_look.add(key)

    def begin_look(self) -> None:
        """A question goes to the database: what is committed from now on may not be in its answer."""
        self._since_look.clear()

    def differing(self, kind: JobType, taken: Mapping[str, Fingerprint]) -> set[str]:
        """The ids of jobs that must be read, by these fingerprints of the database."""
        found = {job_id for job_type, job_id in self.unknown if job_type == kind.name}
        return found | {key[1] for key in self.mirror.differing(kind.name, taken) if key not in self._since_look}

    def seen(
        self,
        kind: JobType,
        job_ids: Iterable[str],
        views: Mapping[str, JobView],
        taken: Mapping[str, Fingerprint],
        at: Instant,
        now: float,
    ) -> None:
        """What the database has of these jobs (nothing, if they are not among `views`); `now` is monotonic."""
        for job_id in job_ids:
            key, view = (kind.name, job_id), views.get(job_id)
            told = self.mirror.get(key)
            self.unknown.discard(key)
            if key not in self._since_look:
                self._committed.pop(key, None)
            elif told is not None:
                continue
            if view is not None:
                new = entry(kind, view.job, names_of(view), at, self._thresholds)
                self._put(key, _as_taken(new, taken.get(job_id)), now)
            elif told is not None:
                self.mirror.remove(key)
                self._changed[key] = None

    def judge_silence(self, at: Instant, now: float) -> None:
        for key, told in self.mirror.newly_silent(at, self._thresholds):
            self._put(key, structs.replace(told, silent=True), now)

    @property
    def has_news(self) -> bool:
        return self.complete and bool(self._changed or self._committed)

    def tell(self, at: Instant, now: float) -> None:
        """Number what has changed since the last time, or the first of it: a flood must not push it off the ring."""
        if self.complete:
            self._take_committed(at, now)
            numbered = enumerate(_taken_from(self._changed), self.ring.last + 1)
            self.ring.add([Event(key, self._text(key, number, at)) for number, (key, _) in numbered])

    def _take_committed(self, at: Instant, now: float) -> None:
        for key, (kind, job) in _taken_from(self._committed):
            told = self.mirror.get(key)
            if told is None:
                self.unknown.add(key)
            else:
                self._put(key, entry(kind, job, told.names, at, self._thresholds), now)

    def _put(self, key: Key, new: Entry, now: float) -> None:
        told = self.mirror.get(key)
        if self.mirror.put(key, new, now) and self.complete and new.shows_other_than(told):
            self._changed[key] = None

    def _text(self, key: Key, number: int, at: Instant) -> bytes:
        event_id = stream_events.id_of(self.epoch, number)
        told = self.mirror.get(key)
        if told is None:
            return stream_events.gone(key, event_id)
        return stream_events.event("job", told.data(at, self._thresholds), event_id)

    def resumed(self, last_event_id: str) -> int | Reason:
        """The number after which a subscriber can go on, or why it cannot."""
        found = stream_events.place(last_event_id)
        if found is None or found[0] != self.epoch:
            return "epoch"
        return found[1] if self.ring.holds(found[1]) else "gap"

    def snapshot(self) -> Snapshot:
        """All that is live now: what comes after its number is as new, or newer."""
        return Snapshot(self.ring.last, [told for _, told in self.mirror.live()])


def _taken_from(waiting: dict[Key, T]) -> list[tuple[Key, T]]:
    """The first of them, which wait no longer."""
    taken = list(islice(waiting.items(), TOLD_AT_ONCE))
    for key, _ in taken:
        del waiting[key]
    return taken


def _as_taken(new: Entry, taken: Fingerprint | None) -> Entry:
    """The database's own fingerprint is the one to compare with, should it ever count a row in another way."""
    return new if taken is None else structs.replace(new, taken=taken.with_disks_of(new.taken))
