"""Rows of the tables as records, and back: the edge where Unix seconds become the database's UTC times. No I/O."""

import functools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from sha_daemon.database import RowRefused
from sha_daemon.fingerprint import Fingerprint
from sha_daemon.job_types import JobType
from sha_daemon.records import Disk, Job, JobView, Sample, StoredStatus
from sha_daemon.statements import JOB_COLUMNS
from telemetry_common.contract import MAX_AMOUNT

LAST_TIMESTAMP = 2**31 - 1
"""A TIMESTAMP column ends at 2038-01-19 03:14:07 UTC; what lies beyond is stored as that."""
_LAST_DATETIME = 253_402_300_799
_MAX_PARAMETER_BYTES = 2 << 20
"""Of JSON in one statement."""
_PARAMETERS_IN_A_PACKET = 8
"""Up to four are sent together, each twice as long where every character must be escaped."""

_decode_row = msgspec.json.Decoder(list[Any]).decode


class Rows:
    """Rows of the tables of one kind of job, whose words for a status may be others than the hub's."""

    def __init__(self, kind: JobType) -> None:
        self._job_status = kind.job_statuses
        self._disk_status = kind.disk_statuses

    def stored(self, statuses: Iterable[StoredStatus]) -> list[str]:
        return [self._job_status.stored(status) for status in statuses]

    def meant(self, word: str) -> StoredStatus:
        """A word of another program's making stands for an end: nothing that this hub knows may happen to the job."""
        return self._job_status.meant(word, otherwise="cancelled")

    def job(self, row: Sequence[Any], disks: tuple[Disk, ...] = ()) -> Job:
        """A row of `statements.JOB`, with `disks`. NULL that another program left is the default."""
        return Job(
            job_id=row[0],
            status=self.meant(row[1]),
            current_phase="pending" if row[2] is None else row[2],
            bytes_transferred=row[3] or 0,
            total_bytes=row[4] or 0,
            transfer_speed_bps=_amount(row[5]),
            eta_seconds=_amount(row[6]),
            progress_percent=float(row[7] or 0),
            error_message=row[8],
            started_at=row[9],
            completed_at=row[10],
            last_telemetry_at=row[11],
            seq=row[12],
            idle_seconds=row[13],
            heard_us=row[14],
            watchdog_failed_at=row[15],
            watchdog_message=row[16],
            context_id=row[17],
            disks=disks,
        )

    def locked(self, texts: Iterable[str]) -> dict[str, Job]:
        """Rows of `Statements.lock_jobs`: the jobs by id, their disks in the order of their index.

        A disk of a job whose id is the same to the collation only is not the job's.
        """
        found: dict[str, list[Any]] = {}
        disks: dict[str, list[Disk]] = {}
        for text in texts:
            row = _decode_row(text)
            found[row[0]] = row
            if row[JOB_COLUMNS] == row[0]:
                disks.setdefault(row[0], []).append(self.disk(row[JOB_COLUMNS:]))
        return {job_id: self.job(row, _by_index(disks.get(job_id, ()))) for job_id, row in found.items()}

    def disk(self, row: Sequence[Any]) -> Disk:
        return Disk(
            disk_index=row[1],
            row_id=row[2],
            status=self._disk_status.meant(row[3], otherwise="pending"),
            bytes_transferred=row[4] or 0,
            total_bytes=row[5] or 0,
            progress_percent=float(row[6] or 0),
            completed_at=row[7],
        )

    def by_job(self, rows: Iterable[Sequence[Any]]) -> dict[str, tuple[Disk, ...]]:
        """The disks of each job, by their index. Ids exactly as stored."""
        disks: dict[str, list[Disk]] = {}
        for row in rows:
            disks.setdefault(row[0], []).append(self.disk(row))
        return {job_id: _by_index(found) for job_id, found in disks.items()}

    def of_job(self, job: Job) -> list[object]:
        """In the order of `Statements.write_jobs`."""
        return [
            job.job_id,
            self._job_status.stored(job.status),
            job.bytes_transferred,
            job.total_bytes,
            job.transfer_speed_bps,
            job.eta_seconds,
            job.progress_percent,
            timestamp(job.started_at),
            timestamp(job.completed_at),
            datetime(job.last_telemetry_at),
            job.seq,
            job.idle_seconds,
            job.heard_us,
            datetime(job.watchdog_failed_at),
        ]

    def of_disk(self, disk: Disk) -> list[object]:
        """In the order of `Statements.write_disks`."""
        return [disk.row_id, *self._figures(disk)]

    def of_new_disk(self, job: Job, disk: Disk) -> list[object]:
        """In the order of `Statements.add_disks`."""
        return [job.job_id, job.context_id, disk.disk_index, *self._figures(disk)]

    def _figures(self, disk: Disk) -> list[object]:
        moved, total, percent = disk.bytes_transferred, disk.total_bytes, disk.progress_percent
        return [self._disk_status.stored(disk.status), moved, total, percent, timestamp(disk.completed_at)]


def _by_index(disks: Iterable[Disk]) -> tuple[Disk, ...]:
    return tuple(sorted(disks, key=lambda disk: disk.disk_index))


def _amount(value: Any) -> int:
    """Of a column that is a DOUBLE on some hubs: it makes 2^63 of the greatest BIGINT."""
    return min(int(value or 0), MAX_AMOUNT)


def view(row: Sequence[Any], stored: Job) -> JobView:
    vm_name, backup_type, created_at = row[JOB_COLUMNS:]
    return JobView(job=stored, vm_name=vm_name, backup_type=backup_type, created_at=created_at)


def texts_of(job: Job) -> list[object]:
    """In the order of `Statements.write_texts`."""
    return [job.job_id, job.current_phase, job.error_message, job.watchdog_message]


def sample(row: Sequence[Any]) -> Sample:
    """In the order of `history_statements._SAMPLE`."""
    return Sample(
        row_id=row[0],
        job_id=row[1],
        seq=row[2],
        at=row[3] / 1000,
        status=row[4],
        current_phase=row[5],
        bytes_transferred=row[6],
        total_bytes=row[7],
        transfer_speed_bps=row[8],
        progress_percent=float(row[9]),
        producer_time=row[10],
    )


def fingerprints(found: Sequence[Sequence[Any]]) -> dict[str, Fingerprint]:
    """The one row of `fingerprint_statements`. Raises RowRefused where the server has cut its text short."""
    text = found[0][0] if found else None
    try:
        listed = msgspec.json.decode(text or "[]", type=list[tuple[str, int, int | None]])
    except msgspec.DecodeError as error:
        raise RowRefused(f"cannot read the fingerprints of the jobs: {error}") from error
    return {job_id: Fingerprint(row, disks) for job_id, row, disks in listed}


def of_sample(sample: Sample) -> list[object]:
    """In the order of `statements.ADD_HISTORY`."""
    return [
        sample.job_id,
        sample.seq,
        moment(sample.at),
        sample.status,
        sample.current_phase,
        sample.bytes_transferred,
        sample.total_bytes,
        sample.transfer_speed_bps,
        sample.progress_percent,
        sample.producer_time,
    ]


def containing(text: str) -> str:
    """The pattern of LIKE ... ESCAPE '|' for whatever has exactly this in it."""
    for special in "|%_":
        text = text.replace(special, f"|{special}")
    return f"%{text}%"


class JsonText(Struct, frozen=True):
    """A parameter of JSON. Of the characters that a string literal of SQL must escape it can have two only."""

    text: str

    def literal(self) -> str:
        """As a literal, for a session without NO_BACKSLASH_ESCAPES. The driver's own way takes five times as long."""
        escaped = self.text.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"


def parameters(rows: Sequence[list[object]], packet_bytes: int) -> Iterator[JsonText]:
    """These rows as JSON arrays: one, unless they are too large for a single statement of at most `packet_bytes`."""
    if not rows:
        return
    encoded = msgspec.json.encode(rows)
    if len(encoded) <= min(_MAX_PARAMETER_BYTES, packet_bytes // _PARAMETERS_IN_A_PACKET) or len(rows) == 1:
        yield JsonText(encoded.decode())
        return
    half = len(rows) // 2
    yield from parameters(rows[:half], packet_bytes)
    yield from parameters(rows[half:], packet_bytes)


def timestamp(at: float | None) -> str | None:
    """UTC text for a TIMESTAMP column, in whole seconds, within what it can hold (1970 to 2038)."""
    return None if at is None else _text(min(max(1, math.floor(at)), LAST_TIMESTAMP))


def datetime(at: float | None) -> str | None:
    """UTC text for a DATETIME column, in whole seconds."""
    return None if at is None else _text(min(max(0, math.floor(at)), _LAST_DATETIME))


def moment(at: float) -> str:
    """UTC text for a DATETIME(3) column, in whole milliseconds."""
    return instant(math.floor(at * 1000))


def instant(milliseconds: int) -> str:
    """The same from Unix milliseconds."""
    within = min(max(0, milliseconds), _LAST_DATETIME * 1000)
    return f"{_text(within // 1000)}.{within % 1000:03d}"


@functools.lru_cache(maxsize=4096)
def _text(seconds: int) -> str:
    year, month, day, hour, minute, second, *_ = time.gmtime(seconds)
    return f"{year:04d}-{month:02d}-{day:02d} {hour:02d}:{minute:02d}:{second:02d}"
