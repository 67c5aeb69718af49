"""What subscribers were last told of each job: every live one, and for a while those that have ended. Pure.

It is what a snapshot is made of, what a change is measured against, and where a job's name is found without a query.
"""

from collections.abc import Iterator, Mapping

import msgspec
from msgspec import Struct

from sha_daemon import job_json
from sha_daemon.fingerprint import Fingerprint, fingerprint
from sha_daemon.job_json import Hearing, Instant
from sha_daemon.job_types import JobType
from sha_daemon.records import Job, JobView
from sha_daemon.silence import Thresholds, reading_before
from sha_daemon.stream_ring import Key
from telemetry_common.contract import FINAL

MAX_JOBS = 50_000
"""Jobs in the mirror, about 1.3 KB each; what is beyond cannot be followed."""


class Names(Struct, frozen=True):
    """What is known of a job to whoever reads its row, and not to the rules."""

    vm_name: str
    backup_type: str
    created_at: float | None


class Entry(Struct, frozen=True):
    """`facts` is JSON without its liveness, which depends on the time of telling; `silent` was so when it was told."""

    names: Names
    facts: bytes
    heard: Hearing
    taken: Fingerprint
    live: bool
    silent: bool

    def shows_other_than(self, told: "Entry | None") -> bool:
        return told is None or (self.facts, self.silent, self.heard.stalled) != (
            told.facts,
            told.silent,
            told.heard.stalled,
        )

    def data(self, at: Instant, thresholds: Thresholds) -> bytes:
        """The job as JSON, as it stands now."""
        return self.facts[:-1] + b"," + msgspec.json.encode(job_json.liveness(self.heard, at, thresholds))[1:]


def entry(kind: JobType, job: Job, names: Names, at: Instant, thresholds: Thresholds) -> Entry:
    view = JobView(job=job, vm_name=names.vm_name, backup_type=names.backup_type, created_at=names.created_at)
    heard = job_json.hearing(job)
    return Entry(
        names=names,
        facts=msgspec.json.encode(job_json.facts(kind.name, view) | job_json.disks(job)),
        heard=heard,
        taken=fingerprint(kind, job),
        live=job.status not in FINAL,
        silent=_silent(heard, reading_before(at.reading_us, thresholds.warn)),
    )


def names_of(view: JobView) -> Names:
    return Names(view.vm_name, view.backup_type, view.created_at)


def _silent(heard: Hearing, before_us: int) -> bool:
    """As `silence.judge` has it, at the cost of a comparison: all live jobs are asked each second."""
    if not heard.running or heard.last_telemetry_at is None or heard.heard_us is None:
        return False
    return heard.heard_us < before_us


class Mirror:
    def __init__(self) -> None:
        self._live: dict[Key, Entry] = {}
        self._ended: dict[Key, tuple[Entry, float]] = {}

    def __len__(self) -> int:
        return len(self._live) + len(self._ended)

    def get(self, key: Key) -> Entry | None:
        ended = self._ended.get(key)
        return self._live.get(key) if ended is None else ended[0]

    def put(self, key: Key, new: Entry, now: float) -> bool:
        """False where there is no room for another job. `now` is monotonic."""
        if self.get(key) is None and len(self) >= MAX_JOBS:
            return False
        self.remove(key)
        if new.live:
            self._live[key] = new
        else:
            self._ended[key] = (new, now)
        return True

    def remove(self, key: Key) -> None:
        self._live.pop(key, None)
        self._ended.pop(key, None)

    def live(self) -> list[tuple[Key, Entry]]:
        return list(self._live.items())

    def forget_ended(self, before: float) -> None:
        """Those that were put before this monotonic time."""
        for key, (_, since) in list(self._ended.items()):
            if since >= before:
                return
            del self._ended[key]

    def differing(self, job_type: str, taken: Mapping[str, Fingerprint]) -> Iterator[Key]:
        """The jobs of which the database has other rows than were told, and those that it has left out: they ended."""
        for job_id, now in taken.items():
            known = self.get((job_type, job_id))
            if known is None or now.differs(known.taken):
                yield job_type, job_id
        for key in self._live:
            if key[0] == job_type and key[1] not in taken:
                yield key

    def newly_silent(self, at: Instant, thresholds: Thresholds) -> list[tuple[Key, Entry]]:
        """Those that became silent by the mere passing of time."""
        before = reading_before(at.reading_us, thresholds.warn)
        return [(key, told) for key, told in self._live.items() if not told.silent and _silent(told.heard, before)]
