"""An update, from its bytes to its answer. Knows the contract and the queue, and no HTTP library."""

import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence

from msgspec import Raw

from sha_daemon.batch import Outcome
from sha_daemon.content_encoding import unpacked
from sha_daemon.ingest import Ingest
from sha_daemon.ingest_queue import Answer, Busy, NotStored, Unavailable
from sha_daemon.records import storable_id
from sha_daemon.replies import JSON, STOPPING, Problem, Reply, no_such_job, unavailable, unknown_job_type
from sha_daemon.waited import aged
from telemetry_common.contract import ContractError, Update, decode_update
from telemetry_common.logs import fields
from telemetry_common.text import printable

log = logging.getLogger(__name__)

REMEMBERED = 10_000
"""Jobs of which it is remembered that something was logged once; the oldest is forgotten first."""


class Receiver:
    """Takes updates for every kind of job that has an entry in `ingests` (by job type).

    `rejected` counts what was refused, by method (`batch` for an update within one) and reason.
    """

    def __init__(self, ingests: Mapping[str, Ingest]) -> None:
        self._ingests = ingests
        self._stopping = False
        self._said: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.rejected: Counter[tuple[str, str]] = Counter()
        self.revived = 0
        self.rowless = 0

    def stop_intake(self) -> None:
        """From now on every update is answered 503: the sender keeps it for the next hub."""
        self._stopping = True

    async def receive(
        self, job_type: str, job_id: str, content_type: str, body: bytes, encoding: str = "", *, waited: float = 0.0
    ) -> Reply:
        """One update: 204 after the COMMIT. Raises Problem for every other answer.

        `encoding` is the body's; `waited` for how many seconds it has lain unread.
        """
        self.check(content_type)
        if encoding:
            body = self._unpacked(job_type, job_id, body, encoding)
        update = aged(self.read(job_type, job_id, body), waited)
        (became,) = await self.store(job_type, [(job_id, update, len(body))])
        if isinstance(became, Problem):
            raise became
        return Reply(204, _result_headers(update, became))

    def check(self, content_type: str) -> None:
        """Whether a body of this type is taken at all now. Raises Problem."""
        if content_type != JSON:
            raise Problem(415, f"Content-Type must be {JSON}, not '{printable(content_type)}'")
        if self._stopping:
            raise unavailable("the hub is stopping; try again", STOPPING)

    def _unpacked(self, job_type: str, job_id: str, body: bytes, encoding: str) -> bytes:
        """The body out of its Content-Encoding; the job is heard also if that cannot be. Raises Problem."""
        try:
            return unpacked(body, encoding)
        except ContractError as error:
            self.hear(job_type, job_id)
            raise Problem(400, str(error)) from None
        except Problem:
            self.hear(job_type, job_id)
            raise

    def hear(self, job_type: str, job_id: str) -> None:
        """Somebody speaks of this job, whatever is wrong with what they say."""
        if job_type in self._ingests and storable_id(job_id):
            self._ingests[job_type].hear(job_id)

    def read(self, job_type: str, job_id: str, body: bytes | Raw) -> Update:
        """The update in `body`, if it is one for this job; the job is heard also if it is not. Raises Problem."""
        ingest = self._ingests.get(job_type)
        if ingest is None:
            raise unknown_job_type(job_type, self._ingests)
        if not storable_id(job_id):
            raise no_such_job(job_type, job_id)
        try:
            update = decode_update(body)
            _agrees(update, job_type, job_id)
        except ContractError as error:
            ingest.hear(job_id)
            raise Problem(400, str(error)) from None
        return update

    async def store(self, job_type: str, updates: Sequence[tuple[str, Update, int]]) -> list[Outcome | Problem]:
        """Commit these (job id, update, bytes); what became of each, in order."""
        answers = await self._ingests[job_type].submit_all(updates)
        return [self._became(job_type, job_id, answer) for (job_id, *_), answer in zip(updates, answers, strict=True)]

    def _became(self, job_type: str, job_id: str, answer: Answer) -> Outcome | Problem:
        if isinstance(answer, NotStored):
            return _not_stored(answer)
        if answer.result is None:
            return no_such_job(job_type, job_id)
        if answer.noteworthy:
            self._note(job_id, answer)
        return answer

    def _note(self, job_id: str, outcome: Outcome) -> None:
        """What the journal should know of an update, each once per job."""
        if outcome.revived_after is not None:
            self.revived += 1
            log.warning(fields("job revived", job=job_id, silent_seconds=round(outcome.revived_after)))
        if outcome.result == "final" and self._first_time("final", job_id):
            log.info(fields("update for a job that has ended", job=job_id, status=outcome.job_status))
        if outcome.rowless_disks:
            self.rowless += 1
            if self._first_time("rowless", job_id):
                log.warning(fields("disk has no row and could not get one", job=job_id, disks=outcome.rowless_disks))

    def _first_time(self, what: str, job_id: str) -> bool:
        key = (what, job_id)
        if key in self._said:
            return False
        self._said[key] = None
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        return True


def _agrees(update: Update, job_type: str, job_id: str) -> None:
    if update.job_id and update.job_id != job_id:
        raise ContractError("`job_id` of the body differs from the one in the path")
    if update.job_type and update.job_type != job_type:
        raise ContractError("`job_type` of the body differs from the one in the path")


def _not_stored(why: NotStored) -> Problem:
    if isinstance(why, Busy):
        return unavailable("the hub has as many updates waiting as it takes; try again", "queue_full")
    if isinstance(why, Unavailable):
        return unavailable("the hub's database is not available; try again", "database_away")
    detail = "the database refused this update; the hub's journal has the reason; try again"
    return Problem(500, detail, reason="database_refused")


def _result_headers(update: Update, outcome: Outcome) -> dict[str, str]:
    headers: dict[str, str] = {}
    if outcome.result is not None and outcome.result != "applied":
        headers["Telemetry-Result"] = outcome.result
    if update.seq:
        headers["Telemetry-Seq"] = str(outcome.seq or 0)
        headers["Telemetry-Status"] = str(outcome.job_status)
    return headers
