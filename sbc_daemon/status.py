"""What the control socket says: one shape for the daemon that fills it and `sbcctl` that reads it."""

from typing import Literal

from msgspec import Struct

from telemetry_common.contract import FINAL

MAX_LETTERS = 1000
"""Of the dead letters the oldest so many are in one list."""


class HubState(Struct, frozen=True, kw_only=True):
    """`url` is the one in use, `first_url` the one that would be if it served. `since_seconds` is how long the link has
    been as it is; None before anything was tried. `last_answer` is the last that was heard of any hub.
    """

    url: str
    first_url: str | None = None
    link: Literal["up", "down", "unknown"]
    since_seconds: float | None = None
    last_answer: str | None = None
    last_answer_seconds: float | None = None
    last_error: str | None = None


class OutboxState(Struct, frozen=True, kw_only=True):
    states: int
    progress: int
    samples: int
    dead_letters: int
    bytes_used: int
    max_bytes: int = 0
    oldest_seconds: float | None = None
    in_memory: int = 0
    moved_aside: int = 0


class HeldLane(Struct, frozen=True, kw_only=True):
    """A job whose messages the hub does not take for now: kept, and tried slowly."""

    job_id: str
    status: int
    reason: str
    since_seconds: float


class JobState(Struct, frozen=True, kw_only=True):
    """`pids` are the processes that it is attached to. `waiting`: something of it is undelivered.
    `hub_status`: what the hub last said the job's status is.
    """

    job_id: str
    status: str
    current_phase: str | None = None
    progress_percent: float | None = None
    bytes_transferred: int | None = None
    total_bytes: int | None = None
    transfer_speed_bps: int | None = None
    eta_seconds: int | None = None
    idle_seconds: float | None = None
    attached: bool = False
    pids: tuple[int, ...] = ()
    waiting: bool = False
    hub_status: str | None = None

    @property
    def contradicted(self) -> bool:
        """The hub has the job in another end than what is said of it here, and nothing under way will change that."""
        if self.hub_status is None or self.hub_status == self.status:
            return False
        return self.hub_status in FINAL if self.status not in FINAL else not self.waiting


class Status(Struct, frozen=True, kw_only=True):
    version: str
    pid: int
    started_at: float
    hub: HubState
    outbox: OutboxState
    counters: dict[str, int]
    jobs: tuple[JobState, ...]
    held: tuple[HeldLane, ...] = ()


class Letter(Struct, frozen=True, kw_only=True):
    """A dead letter as it is shown; `body` is the JSON that the hub refused."""

    letter_id: int
    job_id: str
    seq: int
    status: int
    reason: str
    at: float
    body: str


class Changed(Struct, frozen=True, kw_only=True):
    """The dead letters that were sent again or deleted, by their numbers."""

    letter_ids: tuple[int, ...]
