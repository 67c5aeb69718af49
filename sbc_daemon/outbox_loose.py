"""What a power cut would bring back: messages that were sent, and are removed without a sync. Pure.

If it brought back a message that a later one of its job has overtaken at the hub, that would look like news whose
number is too small: it would be numbered anew, and old news would overwrite new. So before anything more of such a job
is sent, the removal has to be on the disk. One sync does that for all jobs.
"""

from collections.abc import Iterable


class Loose:
    def __init__(self) -> None:
        self._jobs: set[str] = set()
        self._sent: set[str] = set()

    def __contains__(self, job_id: str) -> bool:
        """Sync before sending of this job."""
        return job_id in self._jobs

    def sent(self, job_id: str) -> None:
        """A message of the job was handed out: the hub may have it from now on, whatever is heard of it."""
        self._sent.add(job_id)

    def removed(self, job_ids: Iterable[str]) -> None:
        """What was sent of these jobs is removed, without a sync."""
        for job_id in job_ids:
            self._jobs.add(job_id)
            self._sent.discard(job_id)

    def replaced(self, job_ids: Iterable[str]) -> None:
        """What was kept of these jobs may have been replaced, without a sync; that matters where it was sent."""
        self._jobs.update(self._sent.intersection(job_ids))

    def synced(self) -> None:
        self._jobs.clear()
