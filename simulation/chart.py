"""The history, held against what was sent: what a hub has answered by a 204 is in it, at the time when it was true."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from sha_daemon.records import JobView, Sample
from simulation.database import Client, Server
from simulation.ground import Ground
from simulation.invariants import DATED_WITHIN_SECONDS
from simulation.network import Exchange
from simulation.promises import SAMPLE_DATED, STORED
from simulation.transport import Response, answers


class _Message(Struct):
    seq: int = 0


class _Body(_Message):
    updates: list[_Message] = []


_bodies = msgspec.json.Decoder(_Body)


class Chart:
    def __init__(self, ground: Ground, server: Server) -> None:
        self._loop = ground.loop
        self._story = ground.story
        self._truth = ground.truth
        self._server = server
        server.observers.append(self._committed)

    def answered(self, exchange: Exchange, response: Response) -> None:
        """A message to a job that had ended is not taken down: it says nothing of the job."""
        became = answers(response)
        if not any(answered.status == 204 for answered in became):
            return
        body = _bodies.decode(exchange.data.partition(b"\r\n\r\n")[2])
        for job_id, message, answered in zip(exchange.job_ids, body.updates or [body], became, strict=True):
            if answered.status == 204 and answered.result != "final" and message.seq:
                self._stored(job_id, message.seq)

    def _stored(self, job_id: str, seq: int) -> None:
        tables = self._server.tables
        stored = tables.jobs[job_id].job.seq or 0
        if stored < seq:
            self._story.violate(STORED, job_id, f"seq {seq}: it has {stored}")
        elif seq not in tables.history.get(job_id, {}):
            self._story.violate(STORED, job_id, f"seq {seq} is not in the history")

    def _committed(self, before: Mapping[str, JobView | None], samples: Sequence[Sample], by: Client | None) -> None:
        if by is None or self._truth.ears.stepped_lately:
            return
        here = by.clock.wall() - self._loop.now
        for sample in samples:
            job = self._truth.job(sample.job_id)
            off = min((abs(sample.at - here - at) for at in job.true_at.get(sample.seq or 0, ())), default=0.0)
            if off > DATED_WITHIN_SECONDS + 1.0 + max(job.transits, default=0.0):
                self._story.violate(SAMPLE_DATED, sample.job_id, f"{off:.1f} s off, by the hub's clock")
