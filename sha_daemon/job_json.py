"""A job and its samples as readers get them: one shape in every answer and event. Pure; times are RFC 3339 in UTC."""

import datetime
import functools
from typing import Any

from msgspec import Struct

from sha_daemon.records import Disk, Job, JobView, Sample
from sha_daemon.silence import Thresholds, idle, judge
from sha_daemon.transitions import failed_by_watchdog


class Instant(Struct, frozen=True):
    """Now, as one answer sees it: Unix seconds, and the reading of the listening clock in microseconds."""

    wall: float
    reading_us: int


class Hearing(Struct, frozen=True):
    """What a job's liveness is judged by."""

    running: bool
    last_telemetry_at: float | None
    heard_us: int | None
    idle_seconds: int | None
    stalled: bool


def hearing(job: Job) -> Hearing:
    stalled = failed_by_watchdog(job)
    return Hearing(job.status == "running", job.last_telemetry_at, job.heard_us, job.idle_seconds, stalled)


def facts(job_type: str, view: JobView) -> dict[str, Any]:
    """What is stored of the job itself: it changes with a write, and only then."""
    job = view.job
    return {
        "job_id": job.job_id,
        "job_type": job_type,
        "vm_name": view.vm_name,
        "backup_type": view.backup_type,
        "status": job.status,
        "current_phase": job.current_phase,
        "bytes_transferred": job.bytes_transferred,
        "total_bytes": job.total_bytes,
        "transfer_speed_bps": job.transfer_speed_bps,
        "eta_seconds": job.eta_seconds,
        "progress_percent": job.progress_percent,
        "error_message": job.error_message,
        "created_at": rfc3339(view.created_at),
        "started_at": rfc3339(job.started_at),
        "completed_at": rfc3339(job.completed_at),
        "last_telemetry_at": rfc3339(job.last_telemetry_at),
        "seq": job.seq,
        "idle_seconds": job.idle_seconds,
    }


def disks(job: Job) -> dict[str, Any]:
    return {"disks": [_disk(disk) for disk in job.disks]}


def _disk(disk: Disk) -> dict[str, Any]:
    return {
        "disk_index": disk.disk_index,
        "status": disk.status,
        "bytes_transferred": disk.bytes_transferred,
        "total_bytes": disk.total_bytes,
        "progress_percent": disk.progress_percent,
        "completed_at": rfc3339(disk.completed_at),
    }


def liveness(heard: Hearing, at: Instant, thresholds: Thresholds) -> dict[str, Any]:
    """How the hub hears the job: by its wall clock for people, by the listening clock for the verdicts."""
    heard_at, running = heard.last_telemetry_at, heard.running
    verdict = None
    if running and heard_at is not None and heard.heard_us is not None:
        verdict = judge(heard.heard_us, at.reading_us, thresholds)
    silent = verdict is not None and verdict.standing != "fresh"
    return {
        "seconds_since_heard": None if heard_at is None else max(0, int(at.wall - heard_at)),
        "silence_seconds": None if verdict is None else round(verdict.silence_seconds, 1),
        "never_heard": running and heard_at is None,
        "silent": silent,
        "idle": running and not silent and idle(heard.idle_seconds, thresholds),
        "stalled": heard.stalled,
    }


def sample(point: Sample) -> dict[str, Any]:
    return {
        "at": _milliseconds(point.at),
        "seq": point.seq,
        "status": point.status,
        "current_phase": point.current_phase,
        "bytes_transferred": point.bytes_transferred,
        "total_bytes": point.total_bytes,
        "transfer_speed_bps": point.transfer_speed_bps,
        "progress_percent": point.progress_percent,
        "producer_time": point.producer_time,
    }


def rfc3339(moment: float | None) -> str | None:
    """In whole seconds, as the columns hold it."""
    return None if moment is None else _text(int(moment))


@functools.lru_cache(maxsize=4096)
def _text(seconds: int) -> str:
    """Kept: jobs share most of their times, and putting one into words costs as much as the rest of the job."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _milliseconds(moment: float) -> str:
    seconds, milliseconds = divmod(round(moment * 1000), 1000)
    at = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"
