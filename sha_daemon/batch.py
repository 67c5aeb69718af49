"""Many updates in one transaction: lock the rows, ask the rules, write the results. Runs wherever the session does.

Every update of a job sees the job as the ones before it left it; each row is written once.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from sha_daemon.database import Session
from sha_daemon.records import Disk, Job, Sample, texts
from sha_daemon.transitions import Receipt, Result, decide
from telemetry_common.contract import Update


class Arrival(Struct, frozen=True):
    """One update as it came in. `at` is the hub's wall clock at its receipt."""

    job_id: str
    update: Update
    at: float


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of one arrival. `result` is None for a job that does not exist.

    `rowless_disks` are indices for which the table (or the bound on the disks of a job) allows no row. `job` is as this
    update left it.
    """

    result: Result | None
    seq: int | None = None
    job_status: str | None = None
    revived_after: float | None = None
    rowless_disks: tuple[int, ...] = ()
    job: Job | None = None

    @property
    def noteworthy(self) -> bool:
        """Whether it is more than an ordinary update: something that the journal may want to know."""
        return self.result == "final" or self.revived_after is not None or bool(self.rowless_disks)


def apply(
    session: Session, arrivals: Sequence[Arrival], heard: Sequence[tuple[str, float]], estimate_us: Callable[[int], int]
) -> list[Outcome]:
    """One outcome per arrival, in order. `heard` are jobs that were heard without a valid update, and when.

    Without either it is a question whether the database takes writes.

    `estimate_us` is this hub's reading of the listening clock, where the database has it so far: another hub's may be
    ahead of it.
    """
    if not arrivals and not heard:
        session.check_writes()
    locked = session.lock_jobs({arrival.job_id for arrival in arrivals})
    work = _Work(locked.jobs, estimate_us(locked.listened_us))
    outcomes = [work.take(arrival) for arrival in arrivals]
    rowless = work.write(session)
    if heard:
        reading_us = estimate_us(session.listening_us())
        for job_id, at in heard:
            session.hear([job_id], at, reading_us)
    return [_with_rowless(outcome, rowless.get(a.job_id)) for outcome, a in zip(outcomes, arrivals, strict=True)]


class _Work:
    """The state of the jobs as the batch goes on, and what of it must be written."""

    def __init__(self, jobs: dict[str, Job], reading_us: int) -> None:
        self._before = jobs
        self._jobs = dict(jobs)
        self._reading_us = reading_us
        self._disks: dict[tuple[str, int], Disk] = {}
        self._samples: list[Sample] = []

    def take(self, arrival: Arrival) -> Outcome:
        job = self._jobs.get(arrival.job_id)
        if job is None:
            return Outcome(result=None)
        decision = decide(job, arrival.update, Receipt(arrival.at, self._reading_us))
        self._jobs[arrival.job_id] = decision.job
        for disk in decision.disks:
            self._disks[arrival.job_id, disk.disk_index] = disk
        if decision.sample is not None:
            self._samples.append(decision.sample)
        return Outcome(
            result=decision.result,
            seq=decision.job.seq,
            job_status=decision.job.status,
            revived_after=decision.revived_after,
            job=decision.job,
            rowless_disks=decision.disks_beyond,
        )

    def write(self, session: Session) -> dict[str, tuple[int, ...]]:
        """Write what changed; the indices of disks without a row, by job."""
        jobs = [job for job_id, job in self._jobs.items() if job is not self._before[job_id]]
        if jobs:
            session.write_jobs(jobs)
            session.write_texts([job for job in jobs if texts(job) != texts(self._before[job.job_id])])
        rowless: dict[str, tuple[int, ...]] = {}
        if self._disks:
            written = [(self._jobs[job_id], disk) for (job_id, _), disk in sorted(self._disks.items())]
            for job_id, index in session.write_disks(written):
                rowless[job_id] = (*rowless.get(job_id, ()), index)
        if self._samples:
            session.add_history(self._samples)
        return rowless


def _with_rowless(outcome: Outcome, indices: tuple[int, ...] | None) -> Outcome:
    """Disks that got no row are not stored: the job is without them."""
    if not indices or outcome.job is None:
        return outcome
    disks = tuple(disk for disk in outcome.job.disks if disk.disk_index not in indices)
    job = structs.replace(outcome.job, disks=disks)
    return structs.replace(outcome, rowless_disks=(*outcome.rowless_disks, *indices), job=job)
