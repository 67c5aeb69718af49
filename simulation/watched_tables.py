"""The twin's tables, which tell what each transaction has changed."""

from collections.abc import Callable, Mapping

from sha_daemon.records import JobView, Sample
from testbed.memory_tables import Tables


class WatchedTables(Tables):
    """Knows what the transaction under way has changed."""

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self.committed: Callable[[Mapping[str, JobView | None], list[Sample]], None] = lambda before, samples: None
        self._before: dict[str, JobView | None] = {}
        self._new: list[Sample] = []

    def put_job(self, view: JobView) -> None:
        self._before.setdefault(view.job.job_id, self.jobs.get(view.job.job_id))
        super().put_job(view)

    def put_sample(self, sample: Sample) -> None:
        known = len(self.samples)
        super().put_sample(sample)
        if len(self.samples) > known:
            self._new.append(sample)

    def take_back(self) -> None:
        super().take_back()
        self._before, self._new = {}, []

    def forget_changes(self) -> None:
        super().forget_changes()
        if self._before or self._new:
            before, new = self._before, self._new
            self._before, self._new = {}, []
            self.committed(before, new)
