"""What the database holds of a job, as the rules see it. Values only; times are Unix seconds, UTC.

`transitions` and `silence` decide over these; `mariadb` reads and writes them.
"""

from typing import Literal

from msgspec import Struct

from telemetry_common.contract import MAX_JOB_ID

StoredStatus = Literal["pending", "running", "completed", "failed", "cancelled"]
StoredDiskStatus = Literal["pending", "running", "completed", "failed"]


def storable_id(job_id: str) -> bool:
    """Whether a row could have this id at all: short enough, and text (a path can smuggle in half a surrogate pair)."""
    if not 0 < len(job_id) <= MAX_JOB_ID:
        return False
    return job_id.isascii() or not any("\ud800" <= c <= "\udfff" for c in job_id)


class Disk(Struct, frozen=True, kw_only=True):
    """One row of `backup_disks`. `row_id` is its primary key, None while it has no row yet."""

    disk_index: int
    row_id: int | None = None
    status: StoredDiskStatus = "pending"
    bytes_transferred: int = 0
    total_bytes: int = 0
    progress_percent: float = 0.0
    completed_at: float | None = None


class Job(Struct, frozen=True, kw_only=True):
    """One row of `backup_jobs` with its disks.

    `heard_us` is the listening clock's reading (microseconds) when the job was last heard; None if it never was.
    `watchdog_failed_at` and `watchdog_message` are the watchdog's mark: set by its verdict, cleared by a revival.
    """

    job_id: str
    status: StoredStatus
    current_phase: str = "pending"
    bytes_transferred: int = 0
    total_bytes: int = 0
    transfer_speed_bps: int = 0
    eta_seconds: int = 0
    progress_percent: float = 0.0
    error_message: str | None = None
    started_at: float | None = None
    completed_at: float | None = None
    last_telemetry_at: float | None = None
    seq: int | None = None
    idle_seconds: int | None = None
    heard_us: int | None = None
    watchdog_failed_at: float | None = None
    watchdog_message: str | None = None
    context_id: str | None = None
    disks: tuple[Disk, ...] = ()


def texts(job: Job) -> tuple[str, str | None, str | None]:
    """What is written only where it has changed: text costs the database more than figures do."""
    return job.current_phase, job.error_message, job.watchdog_message


class Locked(Struct, frozen=True):
    """Jobs whose rows (and their disks') are held until the end of the transaction.

    `listened_us` is the listening clock's reading; 0 where no job was found, for nobody needs it then.
    """

    jobs: dict[str, Job] = {}
    listened_us: int = 0


class Sample(Struct, frozen=True, kw_only=True):
    """One point of a job's history, at its event time. Unique per job and `seq`. `row_id` as that of a disk."""

    job_id: str
    at: float
    status: StoredStatus
    current_phase: str
    bytes_transferred: int
    total_bytes: int
    transfer_speed_bps: int
    progress_percent: float
    row_id: int | None = None
    seq: int | None = None
    producer_time: str | None = None


class JobView(Struct, frozen=True, kw_only=True):
    """A job as readers see it: the stored job, its name, and its silence on the listening clock."""

    job: Job
    vm_name: str
    backup_type: str
    created_at: float | None


class Page(Struct, frozen=True, kw_only=True):
    """One page of the job list, newest first. `cursor` asks for the next page; None at the end."""

    jobs: tuple[JobView, ...]
    cursor: str | None = None
