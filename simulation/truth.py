"""What really happened, as nobody within the world can know it: what was said, acknowledged, sent and heard.

Times are virtual seconds. The checks (`invariants`) compare what the daemons made of it with this.
"""

from collections import deque
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from simulation.attention import Attention
from simulation.clocks import MachineClock
from simulation.ears import Ears
from simulation.loop import VirtualLoop
from simulation.promises import NUMBERS, UNFOUNDED
from simulation.realm import Realm
from simulation.story import Story
from telemetry_common.contract import FINAL
from testbed.memory_disk import MemoryDisk


class Change(Struct, frozen=True):
    """A change of state that a producer has said: its phase, or its end, and what it said with it."""

    phase: str = ""
    end: str = ""
    bytes: int = 0
    disk_bytes: tuple[int, ...] = ()
    error: str = ""


class End(Struct, frozen=True):
    """An end that was said to the sidecar: when, and how the client's clock stood then."""

    status: str
    at: float
    stepped: float
    boot: str


class Sending(Struct, frozen=True):
    """A message that tells an end, on its way: when it left, and how the client's clock stood then."""

    seq: int
    at: float
    stepped: float
    boot: str


class JobTruth:
    """Of one job. `phases` and `ends` are all that were said of it, in order; `most_bytes` is the most that was said.

    `sayings` are the phases as they were said, repeated ones included; `stored_saying` is the place among them of the
    last one that a hub stored, in that life of the sidecar.

    `true_at` has, for each `seq` that was sent, when that was true by what was sent with it.

    `sendings` are the latest messages that told an end. `transits` are for how long its latest arrivals had been on
    their way. `heard_at` is the last arrival of any message at a hub, `heard_by_dull` the reading of the dull ears
    then. `heard_by` has that of the sharp ears for each life of a hub, `heard_for_good` the one that is in the
    database: what a hub could not write down dies with it.
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.phases: list[str] = []
        self.ends: list[End] = []
        self.most_bytes = 0
        self.acknowledged: list[Change] = []
        self.true_at: dict[int, tuple[float, ...]] = {}
        self.sendings: deque[Sending] = deque(maxlen=256)
        self.transits: deque[float] = deque(maxlen=256)
        self.heard_at: float | None = None
        self.heard_by: dict[Realm, float] = {}
        self.heard_for_good = 0.0
        self.sayings: list[str] = []
        self.stored_saying = 0
        self.phase_stored_in_life = 0
        self.numbered_anew = False
        """By a sidecar that did not know how far the one before it had come."""
        self.heard_by_dull = 0.0
        self.cancelled = False
        self.forsaken = False

    def may_be(self, status: str) -> bool:
        return any(end.status == status for end in self.ends)


class _Sent(Struct):
    seq: int
    age_seconds: float
    status: str
    bytes_transferred: int = 0


_sent = msgspec.json.Decoder(_Sent)


class Truth:
    def __init__(self, loop: VirtualLoop, story: Story, client: MachineClock) -> None:
        self.jobs: dict[str, JobTruth] = {}
        self.ears = Ears(loop)
        self.attention = Attention(loop, story)
        self.acknowledgements = 0
        self.lives = 0
        """Of the sidecar: how often it has begun."""
        self._loop = loop
        self.story = story
        self._client = client
        self._greatest_seq = 0

    def sidecar_begins(self, ceiling: int, *, refused: bool) -> None:
        """With this ceiling of `seq` on its disk, which has `refused` something before, or never has."""
        self.lives += 1
        if self._greatest_seq > ceiling and refused:
            self._numbers_begin_anew()
        elif self._greatest_seq > ceiling:
            self.story.violate(NUMBERS, "", f"{self._greatest_seq} was sent, and {ceiling} is on the disk")

    def _numbers_begin_anew(self) -> None:
        """A request of the life before may still arrive, under a greater number than what is said now."""
        self._greatest_seq = 0
        for job in self.jobs.values():
            job.numbered_anew = True

    def job(self, job_id: str) -> JobTruth:
        found = self.jobs.get(job_id)
        if found is None:
            found = self.jobs[job_id] = JobTruth(job_id)
        return found

    def said(self, job_id: str, phase: str, end: str, most_bytes: int) -> None:
        """The sidecar reads a line, now."""
        job = self.job(job_id)
        job.most_bytes = max(job.most_bytes, most_bytes)
        if phase and phase not in job.phases:
            job.phases.append(phase)
        if phase and job.sayings[-1:] != [phase]:
            job.sayings.append(phase)
        if end:
            moment = self._client.moment()
            job.ends.append(End(end, self._loop.now, self._client.stepped, moment.boot_id))

    def acknowledge(self, job_id: str, change: Change) -> None:
        """The producer has been told that this is safe."""
        self.acknowledgements += 1
        self.job(job_id).acknowledged.append(change)
        self.story.note("acknowledged", job_id, (change.phase, change.end))

    def sending(self, job_id: str, body: bytes) -> None:
        """The sidecar posts this message."""
        message = _sent.decode(body)
        job = self.job(job_id)
        self._say_when_true(job, message)
        self._greatest_seq = max(self._greatest_seq, message.seq)
        if message.status in FINAL:
            moment = self._client.moment()
            job.sendings.append(Sending(message.seq, self._loop.now, self._client.stepped, moment.boot_id))
        what = "sent its end" if message.status in FINAL else "sent"
        self.story.note(what, job_id, (message.seq, message.status, message.bytes_transferred))
        if message.bytes_transferred > job.most_bytes:
            self.story.violate(UNFOUNDED, job_id, f"{message.bytes_transferred} of {job.most_bytes} bytes")

    def _say_when_true(self, job: JobTruth, message: _Sent) -> None:
        """By the client's clocks, which across a reboot may be stepped: then it is told otherwise the next time."""
        at, before = self._loop.now - message.age_seconds, job.true_at.get(message.seq, ())
        if not any(abs(at - known) < 1.0 for known in before):
            job.true_at[message.seq] = (*before, at)

    def arrived(self, job_ids: Iterable[str], transit: float, by: Realm) -> None:
        """A hub reads a request with messages of these jobs, which was so long on its way to the hub's machine."""
        sharp, dull = self.ears.sharp, self.ears.dull
        for job_id in job_ids:
            job = self.job(job_id)
            job.heard_at, job.heard_by_dull, job.heard_by[by] = self._loop.now, dull, sharp
            job.transits.append(transit)

    def outbox_lost(self, disk: MemoryDisk) -> None:
        """What was acknowledged and waits there is lost with it: no promise covers that."""
        for job_id in disk.lanes:
            self.job(job_id).acknowledged.clear()
        self._numbers_begin_anew()
