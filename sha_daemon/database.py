"""The hub's door to its database: transactions as plain functions over a `Session`.

The rules never see SQL and never await. `Database.run` carries one function through one transaction; where it runs (a
thread that owns a connection; inline under a virtual clock) is the implementation's business. Two implementations pass
one suite of tests: `mariadb.MariaDB`, and the in-memory twin of the fault simulation.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from sha_daemon.fingerprint import Fingerprint, Question
from sha_daemon.records import Disk, Job, JobView, Locked, Page, Sample, StoredStatus
from sha_daemon.samples import Samples

T = TypeVar("T")


MAX_PAGE = 1000
"""Jobs on one page of the list, at most."""
LISTED_ERROR_CHARACTERS = 1000
"""Of a job's error in the list: a column of 64 KB would make a page of 64 MB."""


class DatabaseError(Exception):
    """Base of all that the database can answer with. Its text is for the journal, never for a sender."""


class DatabaseAway(DatabaseError):
    """No connection, or it broke: nothing is known of the transaction. Try again: the `seq` guard makes it safe."""


class DatabaseConflict(DatabaseError):
    """Deadlock or certification failure: rolled back by the server. Try again at once."""


class RowLocked(DatabaseError):
    """Another program holds one of the rows for longer than this transaction may wait. Without that row it succeeds."""


class SchemaMissing(DatabaseError):
    """The tables are not (or not all) there: `shactl db migrate` has to run. Its text names what is missing."""


class TooMuch(DatabaseError):
    """More rows than one transaction may take into memory. Part of the jobs at a time succeeds."""


class DatabaseMissing(SchemaMissing):
    """The server has no database of the configured name: that, or `shactl db setup`, comes before any table."""


class RowRefused(DatabaseError):
    """The server refuses what would be written (a constraint, a type): trying again gives the same answer."""


class Session(Protocol):
    """One open transaction. Every method may raise DatabaseError; then nothing of the transaction remains."""

    @property
    def history(self) -> Samples:
        """The samples that `add_history` has added, to read them and let them go."""

    def lock_jobs(self, job_ids: Iterable[str]) -> Locked:
        """The jobs with their disks, their rows locked until the end of the transaction.

        Ids are compared exactly, whatever the collation says; unknown ids are absent from the answer. Raises TooMuch
        where the jobs have too many disks for one transaction; a single job never has.
        """

    def held_jobs(self, job_ids: Iterable[str]) -> set[str]:
        """Those of the jobs of which another transaction holds the row, or a disk's. Waits for nobody."""

    def write_jobs(self, jobs: Sequence[Job]) -> None:
        """Write every telemetry column of these (locked) jobs but their texts; not their disks.

        What the server has against this and the writes below may be heard at the COMMIT only.
        """

    def write_texts(self, jobs: Sequence[Job]) -> None:
        """Write phase, error message and the watchdog's message of these (locked) jobs."""

    def write_disks(self, disks: Sequence[tuple[Job, Disk]]) -> Sequence[tuple[str, int]]:
        """Write these disks of locked jobs; a disk without `row_id` gets a row where the table allows one.

        Returns (job id, disk index) of those for which it did not.
        """

    def add_history(self, samples: Sequence[Sample]) -> None:
        """Add samples; one whose (job, seq) is there already is passed over."""

    def hear(self, job_ids: Iterable[str], at: float, heard_us: int) -> None:
        """The running ones of these jobs were heard at wall time `at`: nothing else changes."""

    def listening_us(self) -> int:
        """The listening clock's reading, in microseconds."""

    def advance_listening(self, own_us: int) -> int:
        """Advance it by the lesser of `own_us` and what passed on the database's clock since; the new reading."""

    def silent_jobs(self, heard_before_us: int, limit: int) -> Sequence[tuple[str, int]]:
        """Running jobs not heard since this reading of the clock, with their own; longest silence first.

        Among them are those that were never heard, by the reading at which a hub first saw them.
        """

    def see_unseen_jobs(self, reading_us: int) -> None:
        """Running jobs without a reading get this one: what has never been heard is at least seen from now on.

        A row that another program holds, or that the server refuses, is left out.
        """

    def never_heard_jobs(self, limit: int) -> list[str]:
        """Running jobs that have never sent telemetry."""

    def fail_silent(self, job_id: str, heard_before_us: int, at: float, message: str) -> bool:
        """One guarded UPDATE: failed with the watchdog's mark, if still running and still silent. True if it was."""

    def job(self, job_id: str) -> JobView | None:
        """One job for readers, without a lock."""

    def views(self, job_ids: Iterable[str]) -> dict[str, JobView]:
        """These jobs for readers, with their disks, without a lock; unknown ids are absent from the answer."""

    def fingerprints(self, question: Question) -> dict[str, Fingerprint]:
        """By job id; what readers see of a job has changed where its fingerprint has."""

    def jobs(self, statuses: Sequence[StoredStatus], limit: int, cursor: str | None, vm: str = "") -> Page:
        """Jobs for readers, newest first; all statuses where `statuses` is empty. ValueError for a foreign cursor.

        Without their disks, and with the first LISTED_ERROR_CHARACTERS of their error.

        `vm`: those whose virtual machine's name has this in it, upper and lower case (and accents) being the same.
        """

    def check_writes(self) -> None:
        """Raises DatabaseError where the database takes no writes (read only, full); changes nothing."""

    def durable(self) -> bool:
        """Whether the server syncs each commit to its disk, so that a 204 survives a power cut."""

    def counts(self) -> dict[str, int]:
        """How many jobs are pending and running, by status (finished ones are not counted: they may be millions)."""


class Database(Protocol):
    async def run(self, work: Callable[[Session], T]) -> T:
        """Run `work` in one transaction, commit, and return what it returned. Raises DatabaseError.

        One call runs at a time, in the order of the calls. Cancelling the caller does not undo the work.
        """

    async def close(self) -> None: ...
