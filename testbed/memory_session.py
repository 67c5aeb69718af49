"""One transaction on the database's in-memory twin: as MariaDB answers, over dictionaries."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import Struct, structs

from sha_daemon import cursor as cursors
from sha_daemon.database import LISTED_ERROR_CHARACTERS, MAX_PAGE, RowLocked, RowRefused
from sha_daemon.fingerprint import Fingerprint, Question, fingerprint
from sha_daemon.job_types import BACKUP
from sha_daemon.records import Disk, Job, JobView, Locked, Page, Sample
from testbed.memory_history import MemoryHistory
from testbed.memory_tables import Listening, Tables, as_stored, disk_as_stored, folded, sample_as_stored


class Obstacles(Struct):
    """Jobs of which another program holds the row, or the disks' rows, or of which the server takes no update."""

    held: str | None = None
    held_disks: str | None = None
    refused: str | None = None


class MemorySession:
    """Implements `database.Session`. `now` is the database's wall clock at the start of the transaction."""

    def __init__(self, tables: Tables, now: float, obstacles: Obstacles, *, context_required: bool) -> None:
        self._tables = tables
        self._obstacles = obstacles
        self._now = now
        self._context_required = context_required
        self.history = MemoryHistory(tables)

    def lock_jobs(self, job_ids: Iterable[str]) -> Locked:
        found = self._stored(job_ids)
        self._wait_for(found)
        if self._with_held_disks(found):
            raise _held()
        return Locked(found, self._tables.listening.listened_us) if found else Locked()

    def _stored(self, job_ids: Iterable[str]) -> dict[str, Job]:
        return {job_id: self._tables.jobs[job_id].job for job_id in sorted(set(job_ids)) if job_id in self._tables.jobs}

    def _wait_for(self, job_ids: Collection[str]) -> None:
        """A statement that finds a row by its key waits for whoever holds it before it looks what is in it."""
        if self._obstacles.held in job_ids and self._obstacles.held in self._tables.jobs:
            raise _held()

    def held_jobs(self, job_ids: Iterable[str]) -> set[str]:
        found = self._stored(job_ids)
        return self._with_held_disks(found) | (found.keys() & {self._obstacles.held})

    def _with_held_disks(self, found: Mapping[str, Job]) -> set[str]:
        return {job_id for job_id, job in found.items() if job.disks and job_id == self._obstacles.held_disks}

    def write_jobs(self, jobs: Sequence[Job]) -> None:
        self._wait_for([job.job_id for job in jobs])
        for job in jobs:
            stored = self._tables.jobs.get(job.job_id)
            if stored is not None:
                kept = structs.replace(as_stored(job), disks=stored.job.disks, context_id=stored.job.context_id)
                self._change(job.job_id, _with_texts(kept, stored.job))

    def write_texts(self, jobs: Sequence[Job]) -> None:
        self._wait_for([job.job_id for job in jobs])
        for job in jobs:
            stored = self._tables.jobs.get(job.job_id)
            if stored is not None:
                self._change(job.job_id, _with_texts(stored.job, job))

    def write_disks(self, disks: Sequence[tuple[Job, Disk]]) -> Sequence[tuple[str, int]]:
        refused: list[tuple[str, int]] = []
        for job, disk in disks:
            if not self._write_disk(job, disk):
                refused.append((job.job_id, disk.disk_index))
        return refused

    def _write_disk(self, job: Job, disk: Disk) -> bool:
        view = self._tables.jobs[job.job_id]
        others = [other for other in view.job.disks if other.row_id != disk.row_id]
        if disk.row_id is None:
            taken = any(other.disk_index == disk.disk_index for other in others)
            if taken or (self._context_required and job.context_id is None):
                return False
            disk = structs.replace(disk, row_id=self._tables.next_row_id())
        disks = sorted([*others, disk_as_stored(disk)], key=lambda d: d.disk_index)
        self._tables.put_job(structs.replace(view, job=structs.replace(view.job, disks=tuple(disks))))
        return True

    def add_history(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            self._tables.put_sample(sample_as_stored(sample))

    def hear(self, job_ids: Iterable[str], at: float, heard_us: int) -> None:
        found = self._stored(job_ids)
        self._wait_for(found)
        for job_id, job in found.items():
            if job.status == "running":
                reading = max(job.heard_us or 0, heard_us)
                self._change(job_id, structs.replace(job, last_telemetry_at=math.floor(at), heard_us=reading))

    def _change(self, job_id: str, job: Job) -> None:
        if job_id == self._obstacles.refused:
            raise RowRefused("cannot store the row")
        self._tables.put_job(structs.replace(self._tables.jobs[job_id], job=job))

    def listening_us(self) -> int:
        return self._tables.listening.listened_us

    def advance_listening(self, own_us: int) -> int:
        before = self._tables.listening
        elapsed_us = max(0, round((self._now - before.advanced_at) * 1e6))
        after = Listening(before.listened_us + min(max(0, own_us), elapsed_us), self._now)
        self._tables.put_listening(after)
        return after.listened_us

    def silent_jobs(self, heard_before_us: int, limit: int) -> Sequence[tuple[str, int]]:
        heard = [(job.job_id, job.heard_us) for job in self._running() if job.heard_us is not None]
        return sorted((each for each in heard if each[1] < heard_before_us), key=lambda each: each[1])[:limit]

    def never_heard_jobs(self, limit: int) -> list[str]:
        return [job.job_id for job in self._running() if job.last_telemetry_at is None][:limit]

    def see_unseen_jobs(self, reading_us: int) -> None:
        for unseen in [job for job in self._running() if job.heard_us is None]:
            if unseen.job_id not in (self._obstacles.held, self._obstacles.refused):
                self._change(unseen.job_id, structs.replace(unseen, heard_us=reading_us))

    def _running(self) -> Iterable[Job]:
        return (view.job for view in self._tables.jobs.values() if view.job.status == "running")

    def fail_silent(self, job_id: str, heard_before_us: int, at: float, message: str) -> bool:
        self._wait_for([job_id])
        view = self._tables.jobs.get(job_id)
        if view is None or view.job.status != "running":
            return False
        if view.job.heard_us is None or view.job.heard_us >= heard_before_us:
            return False
        verdict = message[:255]
        mark = structs.replace(view.job, status="failed", completed_at=at, error_message=verdict)
        mark = structs.replace(mark, watchdog_failed_at=at, watchdog_message=verdict)
        self._change(job_id, as_stored(mark))
        return True

    def job(self, job_id: str) -> JobView | None:
        return self._tables.jobs.get(job_id)

    def views(self, job_ids: Iterable[str]) -> dict[str, JobView]:
        return {job_id: self._tables.jobs[job_id] for job_id in set(job_ids) if job_id in self._tables.jobs}

    def fingerprints(self, question: Question) -> dict[str, Fingerprint]:
        views, limit = self._tables.jobs.values(), question.limit
        since = math.floor(self._now) - question.made_within_seconds
        young = [view.job for view in views if view.created_at is not None and view.created_at >= since][:limit]
        live = [[view.job for view in views if view.job.status == status][:limit] for status in ("pending", "running")]
        return {job.job_id: _fingerprint(job, question) for job in [*young, *live[0], *live[1]]}

    def jobs(self, statuses: Sequence[str], limit: int, cursor: str | None, vm: str = "") -> Page:
        size = min(max(1, limit), MAX_PAGE)
        views = [v for v in self._tables.jobs.values() if not statuses or v.job.status in statuses]
        views = [view for view in views if folded(vm) in folded(view.vm_name)]
        views.sort(key=_newness, reverse=True)
        if cursor is not None:
            place = cursors.place(cursor)
            end = _order(place.created_at, place.job_id)
            views = [view for view in views if _newness(view) < end]
        shown = tuple(structs.replace(view, job=_listed(view.job)) for view in views[:size])
        return Page(jobs=shown, cursor=cursors.end_of(shown[-1]) if len(views) > size else None)

    def check_writes(self) -> None:
        """The twin's faults strike whole transactions."""

    def durable(self) -> bool:
        return True

    def counts(self) -> dict[str, int]:
        counts = {"pending": 0, "running": 0}
        for view in self._tables.jobs.values():
            if view.job.status in counts:
                counts[view.job.status] += 1
        return counts


def _held() -> RowLocked:
    return RowLocked("cannot wait for a row that another program holds")


def _listed(job: Job) -> Job:
    error = job.error_message and job.error_message[:LISTED_ERROR_CHARACTERS]
    return structs.replace(job, disks=(), error_message=error)


def _with_texts(job: Job, texts: Job) -> Job:
    return structs.replace(
        job,
        current_phase=texts.current_phase,
        error_message=texts.error_message,
        watchdog_message=texts.watchdog_message,
    )


def _fingerprint(job: Job, question: Question) -> Fingerprint:
    whole = fingerprint(BACKUP, job)
    return whole if question.has(job.job_id) else Fingerprint(whole.row, None)


def _newness(view: JobView) -> tuple[float, str]:
    return _order(view.created_at, view.job.job_id)


def _order(created_at: float | None, job_id: str) -> tuple[float, str]:
    return (-1.0 if created_at is None else created_at, job_id)
