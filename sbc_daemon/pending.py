"""What waits for the next write to the outbox. Pure. All that waits together is written, and synced, together.

Per job the order is: its state changes as they came, then at most one progress, the newest. Progress that a state
change has overtaken is not worth writing: every message is the full snapshot.
"""

from typing import NamedTuple, Protocol

from msgspec import UNSET

from sbc_daemon.cadence import STATE_CHANGES, Reason
from telemetry_common.clock import Moment
from telemetry_common.contract import FINAL, Update

DISKS_OF_A_PIECE = 16
"""So many disks weigh as much as a message without any."""


class Origin(Protocol):
    """Who asked for an answer."""

    def answer(self, ack: str | int, error: str | None) -> None:
        """The line with this `ack` is safe on disk, or (with `error`) is not."""


class Draft(NamedTuple):
    """A message but for its number."""

    job_id: str
    update: Update
    reason: Reason
    taken: Moment

    @property
    def is_state(self) -> bool:
        return self.reason in STATE_CHANGES

    @property
    def final(self) -> bool:
        return self.update.status in FINAL

    @property
    def weight(self) -> int:
        return 1 + (0 if self.update.disks is UNSET else len(self.update.disks) // DISKS_OF_A_PIECE)


class Ack(NamedTuple):
    job_id: str
    ack: str | int
    origin: Origin


class Batch(NamedTuple):
    """`jobs`: whose records are to be written."""

    drafts: list[Draft]
    acks: list[Ack]
    jobs: list[str]


class Pending:
    def __init__(self) -> None:
        self._states: list[Draft] = []
        self._progress: dict[str, Draft] = {}
        self._acks: list[Ack] = []
        self._jobs: dict[str, None] = {}
        self.weight = 0
        """Of everything that can pile up (progress cannot: one per job): an ack is 1, a state the more the more disks
        it tells of."""

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, draft: Draft) -> None:
        self._jobs[draft.job_id] = None
        if draft.is_state:
            self._progress.pop(draft.job_id, None)
            self._states.append(draft)
            self.weight += draft.weight
        else:
            self._progress[draft.job_id] = draft

    def add_ack(self, ack: Ack) -> None:
        """The job's record is written with it, so that the line is safe even if it was not worth a message."""
        self._jobs[ack.job_id] = None
        self._acks.append(ack)
        self.weight += 1

    def add_record(self, job_id: str) -> None:
        self._jobs[job_id] = None

    def take(self) -> Batch:
        batch = Batch([*self._states, *self._progress.values()], self._acks, list(self._jobs))
        self._states, self._progress, self._acks, self._jobs = [], {}, [], {}
        self.weight = 0
        return batch
