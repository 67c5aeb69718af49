"""What the journal hears of silent jobs: the edges, not the level. A line when a silence is noticed, one at its end."""

import logging
from collections.abc import Iterable, Mapping

from sha_daemon.records import JobView
from telemetry_common.logs import fields

log = logging.getLogger(__name__)


class SilenceStory:
    """Of one kind of job, as one hub tells it: another hub, or this one after a restart, tells its own."""

    def __init__(self) -> None:
        self._silent: dict[str, int] = {}
        self._never_heard: frozenset[str] = frozenset()
        self._complained_of: set[str] = set()
        self._not_swept = 0

    @property
    def silent(self) -> int:
        return len(self._silent)

    @property
    def never_heard(self) -> int:
        return len(self._never_heard)

    @property
    def told(self) -> Mapping[str, int]:
        """Silences that were told, by job, with the reading at its last receipt: with another it is another silence."""
        return self._silent

    def not_swept(self, error: Exception) -> None:
        """The database did not let the watchdog look. Whether others are served by it is not said with that."""
        if not self._not_swept:
            log.warning(fields("no sweep for silent jobs for now", reason=error))
        self._not_swept += 1

    def swept(self) -> None:
        if self._not_swept:
            log.info(fields("silent jobs are looked for again", put_off=self._not_swept))
        self._not_swept = 0

    def fell_silent(self, job_id: str, heard_us: int, seconds: float) -> None:
        if self._silent.get(job_id) != heard_us:
            log.warning(fields("job is silent", job=job_id, silent_seconds=round(seconds)))
        self._silent[job_id] = heard_us

    def failed(self, job_id: str, reason: str) -> None:
        self._silent.pop(job_id, None)
        log.error(fields("job failed by the watchdog", job=job_id, reason=reason))

    def over(self, still_silent: Iterable[str]) -> list[str]:
        """Silences that were told and are over; `ended` is to be called for each."""
        return sorted(self._silent.keys() - set(still_silent))

    def ended(self, job_id: str, now: JobView | None, reading_us: int) -> None:
        """It was heard again, or has ended, or another hub has failed it, as `now` says; None where it was deleted."""
        since_us = self._silent.pop(job_id)
        heard_us = now.job.heard_us if now is not None else None
        until_us = heard_us if heard_us is not None and heard_us > since_us else reading_us
        status = now.job.status if now is not None else "deleted"
        seconds = round((until_us - since_us) / 1e6)
        log.info(fields("job is silent no longer", job=job_id, status=status, silent_seconds=seconds))

    def never_heard_are(self, job_ids: Iterable[str]) -> None:
        """The jobs of older clients, as of this sweep: each is said once."""
        known, self._never_heard = self._never_heard, frozenset(job_ids)
        for job_id in sorted(self._never_heard - known):
            log.info(fields("running job has never sent telemetry", job=job_id))

    def put_off(self, job_id: str, error: Exception) -> None:
        """No verdict: its row is held."""
        if self._first_complaint(job_id):
            log.warning(fields("verdict put off: another program holds the row", job=job_id, reason=error))

    def refused(self, job_id: str, error: Exception) -> None:
        """No verdict: the server does not take it."""
        if self._first_complaint(job_id):
            log.error(fields("verdict refused by the database", job=job_id, reason=error))

    def failed_to_judge(self, job_id: str, error: Exception) -> None:
        if self._first_complaint(job_id):
            text = fields("cannot judge the silence of a job; the sweep goes on", job=job_id)
            log.error(text, exc_info=error)

    def _first_complaint(self, job_id: str) -> bool:
        first = job_id not in self._complained_of
        self._complained_of.add(job_id)
        return first

    def no_complaint_but_of(self, job_ids: Iterable[str]) -> None:
        """All others may be complained of anew."""
        self._complained_of &= set(job_ids)
