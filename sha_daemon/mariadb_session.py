"""One transaction on MariaDB: the statements of `statements`, the rows of `rows`, and no decision about a job."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast

from msgspec import structs

from sha_daemon import cursor as cursors
from sha_daemon import rows, statements
from sha_daemon.database import MAX_PAGE, RowRefused, SchemaMissing, TooMuch
from sha_daemon.fingerprint import Fingerprint, Question
from sha_daemon.fingerprint_statements import FingerprintStatements
from sha_daemon.job_types import JobType
from sha_daemon.mariadb_history import MariaHistory
from sha_daemon.records import Disk, Job, JobView, Locked, Page, Sample, StoredStatus, storable_id
from sha_daemon.schema import Tables


class Channel(Protocol):
    """A connection within a transaction. Raises DatabaseError only."""

    last_id: int

    def execute(self, statement: str, *values: object) -> int:
        """Run it; how many rows it found (changed or not)."""

    def rows(self, statement: str, *values: object) -> Sequence[Sequence[Any]]: ...


class MariaSession:
    """Implements `database.Session`."""

    def __init__(self, link: Channel, tables: Tables, kind: JobType) -> None:
        self._link = link
        self._tables = tables
        self._rows = rows.Rows(kind)
        self._sql = statements.Statements(kind)
        self._fingerprints = FingerprintStatements(kind)
        self.history = MariaHistory(link, kind)
        self._unsent: list[tuple[str, rows.JsonText]] = []

    def lock_jobs(self, job_ids: Iterable[str]) -> Locked:
        wanted = {job_id for job_id in job_ids if storable_id(job_id)}
        if not wanted:
            return Locked()
        statement = self._sql.lock_jobs(len(wanted), self._tables.disk_index, self._tables.disk_collation)
        found = self._link.rows(statement, *sorted(wanted))
        if not found:
            return Locked()
        if found[0][1] is None:
            raise SchemaMissing("cannot read the listening clock: telemetry_listening has no row with id 1")
        if len(found) > statements.MAX_LOCKED_ROWS:
            raise TooMuch(f"cannot lock these jobs at once: they have over {statements.MAX_LOCKED_ROWS} disks")
        jobs = self._rows.locked(text for text, _ in found)
        jobs |= self._with_whole_errors(jobs)
        return Locked({job_id: job for job_id, job in jobs.items() if job_id in wanted}, int(found[0][1]))

    def _with_whole_errors(self, jobs: dict[str, Job]) -> dict[str, Job]:
        """Those of the jobs of whose error only the beginning came along."""
        long = [job.job_id for job in jobs.values() if len(job.error_message or "") >= statements.SHORT_ERROR]
        if not long:
            return {}
        whole = self._link.rows(self._sql.error_messages(len(long)), *long)
        return {job_id: structs.replace(jobs[job_id], error_message=text) for job_id, text in whole}

    def held_jobs(self, job_ids: Iterable[str]) -> set[str]:
        wanted = sorted({job_id for job_id in job_ids if storable_id(job_id)})
        if not wanted:
            return set()
        questions = self._sql.rows_of_jobs(len(wanted)), self._sql.rows_of_disks(len(wanted), self._tables.disk_index)
        held: set[str] = set()
        for question in questions:
            free = {row[0] for row in self._link.rows(question + statements.SKIP_LOCKED, *wanted)}
            held |= {str(job_id) for key, job_id in self._link.rows(question, *wanted) if key not in free}
        return held & set(wanted)

    def write_jobs(self, jobs: Sequence[Job]) -> None:
        self._later(self._sql.write_jobs(self._tables.id_collation), [self._rows.of_job(job) for job in jobs])

    def write_texts(self, jobs: Sequence[Job]) -> None:
        self._later(self._sql.write_texts(self._tables.id_collation), [rows.texts_of(job) for job in jobs])

    def write_disks(self, disks: Sequence[tuple[Job, Disk]]) -> Sequence[tuple[str, int]]:
        stored = [self._rows.of_disk(disk) for _, disk in disks if disk.row_id is not None]
        self._later(self._sql.write_disks(), stored)
        return self._add_disks([(job, disk) for job, disk in disks if disk.row_id is None])

    def _later(self, statement: str, written: Sequence[list[object]]) -> None:
        """Kept for `commit`, unless there is more than one parameter's worth of it."""
        parameters = list(rows.parameters(written, self._tables.packet_bytes))
        for parameter in parameters[:-1]:
            self._link.execute(statement, parameter)
        self._unsent += [(statement, parameter) for parameter in parameters[-1:]]

    def commit(self) -> None:
        """What was to be written and the COMMIT, in one question to the server."""
        if not self._unsent:
            self._link.execute(statements.COMMIT)
            return
        block = statements.committed_together([statement for statement, _ in self._unsent])
        self._link.execute(block, *(parameter for _, parameter in self._unsent))
        self._unsent = []

    def _add_disks(self, disks: list[tuple[Job, Disk]]) -> list[tuple[str, int]]:
        """All at once; one by one only where the table refuses some (a constraint of another program's making)."""
        allowed = [(j, d) for j, d in disks if j.context_id is not None or not self._tables.context_required]
        refused = [(j.job_id, d.disk_index) for j, d in disks if j.context_id is None and self._tables.context_required]
        try:
            self._insert_disks(allowed)
        except RowRefused:
            refused += [(j.job_id, d.disk_index) for j, d in allowed if not self._insert_disk(j, d)]
        return refused

    def _insert_disks(self, disks: list[tuple[Job, Disk]]) -> None:
        new = [self._rows.of_new_disk(job, disk) for job, disk in disks]
        for parameter in rows.parameters(new, self._tables.packet_bytes):
            self._link.execute(self._sql.add_disks(), parameter)

    def _insert_disk(self, job: Job, disk: Disk) -> bool:
        try:
            self._insert_disks([(job, disk)])
        except RowRefused:
            return False
        return True

    def add_history(self, samples: Sequence[Sample]) -> None:
        self._later(self._sql.add_history(), [rows.of_sample(sample) for sample in samples])

    def hear(self, job_ids: Iterable[str], at: float, heard_us: int) -> None:
        wanted = sorted({job_id for job_id in job_ids if storable_id(job_id)})
        if wanted:
            self._link.execute(self._sql.hear(len(wanted)), rows.datetime(at), heard_us, *wanted, *wanted)

    def listening_us(self) -> int:
        found = self._link.rows(statements.LISTENING)
        if not found:
            raise SchemaMissing("cannot read the listening clock: telemetry_listening has no row with id 1")
        return int(found[0][0])

    def advance_listening(self, own_us: int) -> int:
        if not self._link.execute(statements.ADVANCE_LISTENING, max(0, own_us)):
            raise SchemaMissing("cannot advance the listening clock: telemetry_listening has no row with id 1")
        return self._link.last_id

    def silent_jobs(self, heard_before_us: int, limit: int) -> Sequence[tuple[str, int]]:
        rows = self._link.rows(self._sql.silent_jobs(), heard_before_us, limit)
        return cast(Sequence[tuple[str, int]], rows)  # as they come: there may be ten thousand

    def see_unseen_jobs(self, reading_us: int) -> None:
        self._see([list(row) for row in self._link.rows(self._sql.unseen())], reading_us)

    def _see(self, found: list[list[object]], reading_us: int) -> None:
        """All at once; by halves only where the server refuses some."""
        try:
            for parameter in rows.parameters(found, self._tables.packet_bytes):
                self._link.execute(self._sql.see(self._tables.id_collation), parameter, reading_us)
        except RowRefused:
            half = len(found) // 2
            for some in (found[:half], found[half:]) if half else ():
                self._see(some, reading_us)

    def never_heard_jobs(self, limit: int) -> list[str]:
        return [row[0] for row in self._link.rows(self._sql.never_heard(), limit)]

    def fail_silent(self, job_id: str, heard_before_us: int, at: float, message: str) -> bool:
        kept = message[:255]
        values = (rows.timestamp(at), kept, rows.datetime(at), kept, job_id, job_id, heard_before_us)
        return storable_id(job_id) and self._link.execute(self._sql.fail_silent(), *values) > 0

    def job(self, job_id: str) -> JobView | None:
        found = self._link.rows(self._sql.read_job(), job_id, job_id) if storable_id(job_id) else ()
        if not found:
            return None
        disks = self._rows.by_job(self._link.rows(self._sql.read_disks(), job_id, job_id))
        return rows.view(found[0], structs.replace(self._rows.job(found[0]), disks=disks.get(job_id, ())))

    def views(self, job_ids: Iterable[str]) -> dict[str, JobView]:
        wanted = sorted({job_id for job_id in job_ids if storable_id(job_id)})
        if not wanted:
            return {}
        found = [row for row in self._link.rows(self._sql.read_jobs(len(wanted)), *wanted) if row[0] in wanted]
        statement = self._sql.read_disks_of(len(wanted), self._tables.disk_index)
        disks = self._rows.by_job(self._link.rows(statement, *wanted))
        jobs = {row[0]: structs.replace(self._rows.job(row), disks=disks.get(row[0], ())) for row in found}
        return {row[0]: rows.view(row, jobs[row[0]]) for row in found}

    def fingerprints(self, question: Question) -> dict[str, Fingerprint]:
        collation, share = self._tables.disk_collation, (question.shares, question.share)
        live, young = self._fingerprints.live(collation), self._fingerprints.young(collation)
        found = rows.fingerprints(self._link.rows(young, *share, question.made_within_seconds, question.limit))
        for status in self._rows.stored(("pending", "running")):
            found |= rows.fingerprints(self._link.rows(live, *share, status, question.limit))
        return found

    def jobs(self, statuses: Sequence[StoredStatus], limit: int, cursor: str | None, vm: str = "") -> Page:
        size = min(max(1, limit), MAX_PAGE)
        after, values = _after(None if cursor is None else cursors.place(cursor))
        named = [rows.containing(vm)] if vm else []
        statement = self._sql.list_jobs(len(statuses), after, named=bool(vm))
        found = self._link.rows(statement, *self._rows.stored(statuses), *named, *values, size + 1)
        views = tuple(rows.view(row, self._rows.job(row)) for row in found[:size])
        return Page(jobs=views, cursor=cursors.end_of(views[-1]) if len(found) > size else None)

    def check_writes(self) -> None:
        if not self._link.execute(statements.CHECK_WRITES):
            raise SchemaMissing("cannot use the listening clock: telemetry_listening has no row with id 1")

    def durable(self) -> bool:
        return bool(self._link.rows(statements.DURABLE)[0][0])

    def counts(self) -> dict[str, int]:
        return {"pending": 0, "running": 0} | {
            self._rows.meant(word): int(count) for word, count in self._link.rows(self._sql.counts())
        }


def _after(place: cursors.Place | None) -> tuple[str, tuple[object, ...]]:
    if place is None:
        return "", ()
    if place.created_at is None:
        return statements.AFTER_NO_TIME, (place.job_id,)
    at = rows.timestamp(place.created_at)
    return statements.AFTER_TIME, (at, at, place.job_id)
