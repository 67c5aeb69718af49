"""What the row of a job that has ended must say, where its producer was told that this is safe."""

from collections.abc import Iterator

from sha_daemon.records import Disk, Job
from simulation.truth import Change

_ONE_TRANSACTION_SECONDS = 1.0
"""Times are stored in whole seconds."""


def missing(job: Job, said: Change) -> Iterator[str]:
    """Of the acknowledged end `said`, what is not in the row, in words. The status is there."""
    if job.bytes_transferred < max(said.bytes, sum(said.disk_bytes)):
        yield f"{said.bytes} bytes: it has {job.bytes_transferred}"
    if job.error_message != (said.error or None):
        yield f"its error {said.error!r}: it is {job.error_message!r}"
    if job.watchdog_failed_at is not None:
        yield "that no watchdog has failed it"
    if said.end == "completed" and (job.progress_percent, job.eta_seconds) != (100.0, 0):
        yield f"that it is complete: {job.progress_percent} %, {job.eta_seconds} s to go"
    disks = {disk.disk_index: disk for disk in job.disks}
    for index, moved in enumerate(said.disk_bytes):
        if index not in disks or disks[index].bytes_transferred < moved:
            yield f"{moved} bytes of disk {index}"
    for disk in job.disks:
        yield from _missing_of(disk, job)


def _missing_of(disk: Disk, job: Job) -> Iterator[str]:
    """No disk outlives its job; in these worlds none ends before it."""
    if disk.status != ("completed" if job.status == "completed" else "failed"):
        yield f"the end of disk {disk.disk_index}: it is {disk.status}"
    elif abs((disk.completed_at or 0.0) - (job.completed_at or 0.0)) > _ONE_TRANSACTION_SECONDS:
        yield f"when disk {disk.disk_index} ended: {disk.completed_at}, the job at {job.completed_at}"
