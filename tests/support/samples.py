"""Samples of a job's history, short to write down."""

from collections.abc import Iterable, Sequence

from sha_daemon.records import Sample, StoredStatus
from tests.support.databases import Prepared

START = 1_760_000_000


def sample(
    at: float,
    speed: int = 100,
    phase: str = "transferring",
    status: StoredStatus = "running",
    *,
    job: str = "job-1",
    seq: int | None = None,
    producer_time: str | None = None,
) -> Sample:
    """`at` is seconds since START; what was moved by then tells one sample from another."""
    return Sample(
        job_id=job,
        at=START + at,
        status=status,
        current_phase=phase,
        bytes_transferred=int(at * 1000),
        total_bytes=10**12,
        transfer_speed_bps=speed,
        progress_percent=42.57,
        seq=seq,
        producer_time=producer_time,
    )


def series(speeds: Iterable[int], phases: Sequence[str] = ("transferring",), job: str = "job-1") -> list[Sample]:
    """One sample every five seconds; the phases share the time equally, in this order."""
    values = list(speeds)
    return [
        sample(5 * n, speed, phases[n * len(phases) // len(values)], job=job, seq=n + 1)
        for n, speed in enumerate(values)
    ]


async def add(prepared: Prepared, samples: Sequence[Sample]) -> None:
    await prepared.database.run(lambda session: session.add_history(samples))
