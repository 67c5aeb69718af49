"""Two numbers for all that readers see of a job's rows: another number means that somebody has changed them. Pure.

The database computes them by the same rule (`fingerprint_statements`), so that ten thousand jobs are compared with
what was last told of them for the price of one short answer.
"""

import math
from zlib import crc32

from msgspec import Struct

from sha_daemon.job_types import JobType
from sha_daemon.records import Disk, Job


class Fingerprint(Struct, frozen=True):
    """`row` is of the job's own row, `disks` of its disks; None where nobody has looked at them."""

    row: int
    disks: int | None

    def differs(self, known: "Fingerprint") -> bool:
        """Whether this, as the database has it now, is of other rows than those that `known` was taken of."""
        return self.row != known.row or self.disks not in (None, known.disks)

    def with_disks_of(self, known: "Fingerprint") -> "Fingerprint":
        return self if self.disks is not None else Fingerprint(self.row, known.disks)


class Question(Struct, frozen=True, kw_only=True):
    """Whose fingerprints are asked for: up to `limit` pending, as many running, and as many made in the last seconds.

    Disks are looked at only of the jobs of one share of `shares`, for they cost more than all the rest.
    """

    limit: int
    made_within_seconds: int
    share: int = 0
    shares: int = 1

    def has(self, job_id: str) -> bool:
        """Whether the job is of this share."""
        return crc32(job_id.encode()) % self.shares == self.share


def fingerprint(kind: JobType, job: Job) -> Fingerprint:
    disks = 0
    for disk in job.disks:
        disks ^= _disk(kind, disk)
    return Fingerprint(_row(kind, job), disks)


def _row(kind: JobType, job: Job) -> int:
    return _crc(
        _text(kind.job_statuses.stored(job.status)),
        -1 if job.seq is None else job.seq,
        -1 if job.heard_us is None else job.heard_us,
        job.bytes_transferred,
        job.total_bytes,
        job.transfer_speed_bps,
        job.eta_seconds,
        -1 if job.idle_seconds is None else job.idle_seconds,
        round(job.progress_percent * 100),
        _seconds(job.started_at),
        _seconds(job.completed_at),
        _text(job.current_phase),
        _text(job.error_message),
    )


def _disk(kind: JobType, disk: Disk) -> int:
    return _crc(
        disk.disk_index,
        _text(kind.disk_statuses.stored(disk.status)),
        disk.bytes_transferred,
        disk.total_bytes,
        round(disk.progress_percent * 100),
        _seconds(disk.completed_at),
    )


def _crc(*figures: int) -> int:
    return crc32(",".join(map(str, figures)).encode())


def _text(words: str | None) -> int:
    return -1 if words is None else crc32(words.encode("utf-8", "surrogatepass"))


def _seconds(at: float | None) -> int:
    """As the columns keep it. A time before 1970 or after 2038 costs a look at the row, no more."""
    return -1 if at is None else math.floor(at)
