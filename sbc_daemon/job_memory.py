"""What the sidecar remembers of one job: what was said of it, what was sent of it, and since when. Values, no rules.

`JobFacts` is what must survive a restart and is kept as JSON beside the messages; `JobMemory` adds what only has a
meaning within this process: monotonic times, the speed window, the count of living producers.
"""

import datetime

import msgspec
from msgspec import Struct, field

from sbc_daemon.speed import SpeedWindow
from telemetry_common.clock import Moment, age_seconds
from telemetry_common.contract import FINAL, DiskStatus, ErrorInfo, JobStatus

GREATEST_AMOUNT = 2**63 - 1
"""What the contract allows for one figure; a sum of legal figures may exceed it."""


class DiskState(Struct, omit_defaults=True):
    """One disk as last said. `percent` is the producer's own figure: a hint, used where bytes and total are unknown."""

    status: DiskStatus | None = None
    bytes_transferred: int | None = None
    total_bytes: int = 0
    percent: float | None = None


class Sent(Struct):
    """What the hub was last told, as far as the cadence compares it."""

    status: JobStatus
    phase: str | None
    disks: dict[int, DiskStatus]
    percent: float
    error: bool


class JobFacts(Struct, omit_defaults=True):
    """One job as last said; None or 0 is what nobody has said yet. `of` is the number of disks of a shared job.

    `heard` is when it was last heard of, on the clocks that outlive the process, as of the last time it was kept.
    """

    job_id: str
    status: JobStatus | None = None
    job_type: str | None = None
    phase: str | None = None
    bytes_transferred: int | None = None
    total_bytes: int = 0
    percent: float | None = None
    speed_bps: int | None = None
    eta_seconds: int | None = None
    disks: dict[int, DiskState] = field(default_factory=dict)
    error: ErrorInfo | None = None
    of: int | None = None
    timestamp: datetime.datetime | None = None
    sent: Sent | None = None
    news: bool = False
    heard: Moment | None = None

    @property
    def ended(self) -> bool:
        return self.status in FINAL


class JobMemory:
    """A job's state and its times on the monotonic clock (seconds). `producers` counts living attached processes.

    `reporters` are the users (uid) whose lines were taken, the first ones.
    """

    __slots__ = ("heard_at", "producers", "reporters", "sent_at", "speed", "state")

    def __init__(self, state: JobFacts, now: float) -> None:
        self.state = state
        self.speed = SpeedWindow()
        self.heard_at = now
        self.sent_at = now
        self.producers = 0
        self.reporters: frozenset[int] = frozenset()

    @property
    def attached(self) -> bool:
        return self.producers > 0

    def bytes_so_far(self) -> int | None:
        """What the producer said of the job, or the sum over its disks; None if neither is known."""
        state = self.state
        if not state.disks:
            return state.bytes_transferred
        known = [disk.bytes_transferred for disk in state.disks.values() if disk.bytes_transferred is not None]
        if not known:
            return state.bytes_transferred
        return min(GREATEST_AMOUNT, max(sum(known), state.bytes_transferred or 0))

    def shrink(self, facts: JobFacts) -> None:
        """It has ended: these are enough, and its pace is of no use any more."""
        self.state = facts
        self.speed = SpeedWindow()

    def to_json(self, now: float, moment: Moment) -> bytes:
        """What is kept of it. `now` (monotonic) and `moment` are the same instant."""
        silent = now - self.heard_at
        self.state.heard = Moment(moment.wall - silent, moment.boot - silent, moment.boot_id)
        return _encoder.encode(self.state)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(JobFacts)


def from_json(snapshot: bytes, now: float, moment: Moment) -> JobMemory:
    """A job as it was kept, as silent as it was; its other times begin anew. Raises ValueError when the bytes are no
    job's."""
    try:
        memory = JobMemory(_decoder.decode(snapshot), now)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    if memory.state.heard is not None:
        memory.heard_at = now - age_seconds(memory.state.heard, moment)
    return memory
