"""What the tracker hands to the outbox and the forwarder takes out of it: one full snapshot of one job."""

from typing import Literal

from msgspec import Struct, structs

from telemetry_common.clock import Moment, age_seconds
from telemetry_common.contract import Update, encode

Kind = Literal["state", "progress", "sample"]
"""`state`: in order, never dropped. `progress`: the newest replaces the one before. `sample`: history for the charts,
kept while the hub is away, sent last, the first to be given up for room."""


class Message(Struct, frozen=True, kw_only=True):
    """`update` is the whole snapshot but for `age_seconds`, which is known on sending; `taken` is when it was true.

    `seq` grows per job. `reason` is the cadence's word for why this was sent. `final` marks the job's end. `retried`:
    it was a dead letter, and what it says may be old.
    """

    job_id: str
    seq: int
    kind: Kind
    final: bool
    reason: str
    taken: Moment
    update: Update
    retried: bool = False

    @property
    def yields(self) -> bool:
        """Whether it gives way where the hub holds a greater `seq`: it is history, and must not become the newest.

        A job's end never does: nothing newer can be said of the job.
        """
        return self.kind == "sample" or (self.retried and not self.final)

    def body(self, now: Moment) -> bytes:
        """The JSON of the POST, with `seq` and the age of the news as of `now`."""
        age = round(age_seconds(self.taken, now), 3)
        return encode(structs.replace(self.update, job_id=self.job_id, seq=self.seq, age_seconds=age))
