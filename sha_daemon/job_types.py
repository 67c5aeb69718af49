"""The kinds of job the hub knows. Another kind is another entry here (and its migrations), and no second code path."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, get_args

from sha_daemon.records import StoredDiskStatus, StoredStatus

S = TypeVar("S", bound=str)
_WORD = re.compile(r"[a-z][a-z0-9_]*")


class StatusNames(Generic[S]):
    """Both ways between the hub's statuses and the words a table has for them."""

    def __init__(self, words: Mapping[S, str]) -> None:
        self._stored = dict(words)
        self._meant = {word: status for status, word in words.items()}

    def stored(self, status: S) -> str:
        return self._stored[status]

    def meant(self, word: str | None, otherwise: S) -> S:
        """The status that `word` stands for; `otherwise` for a word that is not of this table's (or none)."""
        return otherwise if word is None else self._meant.get(word, otherwise)

    def words(self) -> tuple[str, ...]:
        return tuple(self._stored.values())


@dataclass(frozen=True, kw_only=True)
class JobType:
    """Where one kind of job is stored. `disk_job_column` is the disks' reference to their job.

    All words go into SQL as they are: they are identifiers, checked here, and never come from outside.
    """

    name: str
    jobs_table: str
    disks_table: str
    disk_job_column: str
    job_statuses: StatusNames[StoredStatus]
    disk_statuses: StatusNames[StoredDiskStatus]

    def __post_init__(self) -> None:
        words = (self.name, self.jobs_table, self.disks_table, self.disk_job_column)
        for word in (*words, *self.job_statuses.words(), *self.disk_statuses.words()):
            if not _WORD.fullmatch(word):
                raise ValueError(f"job type {self.name!r}: {word!r} is not a plain identifier")


BACKUP = JobType(
    name="backup",
    jobs_table="backup_jobs",
    disks_table="backup_disks",
    disk_job_column="backup_job_id",
    job_statuses=StatusNames({status: status for status in get_args(StoredStatus)}),
    disk_statuses=StatusNames({status: status for status in get_args(StoredDiskStatus)}),
)
JOB_TYPES = (BACKUP,)
