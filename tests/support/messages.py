"""Messages of a made-up job, as the tracker would hand them over."""

from msgspec import UNSET

from sbc_daemon.message import Kind, Message
from sbc_daemon.outbox import JobRecord
from telemetry_common.clock import Moment
from telemetry_common.contract import ErrorInfo, JobStatus, Update


def message(
    seq: int = 1,
    kind: Kind = "state",
    job: str = "job-1",
    *,
    at: float = 0.0,
    final: bool = False,
    done: int = 0,
    phase: str = "transferring",
    size: int = 0,
) -> Message:
    """`at` is seconds since the boot of the machine; `size` makes it at least so many bytes long."""
    status: JobStatus = "completed" if final else "running"
    error = ErrorInfo("x" * size) if size else UNSET
    return Message(
        job_id=job,
        seq=seq,
        kind=kind,
        final=final,
        reason="test",
        taken=Moment(1_760_000_000.0 + at, at, "boot-1"),
        update=Update(job_id=job, status=status, bytes_transferred=done, current_phase=phase, error=error),
    )


def progress(seq: int, job: str = "job-1", *, at: float = 0.0, size: int = 0) -> Message:
    return message(seq, "progress", job, at=at, size=size)


def end(seq: int, job: str = "job-1") -> Message:
    return message(seq, job=job, final=True)


def record(job: str = "job-1", *, ended: bool = False, snapshot: bytes = b"{}") -> JobRecord:
    return JobRecord(job_id=job, snapshot=snapshot, ended=ended)
