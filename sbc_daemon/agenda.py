"""When which job is to be looked at again. Pure; times are monotonic seconds."""

import heapq


class Agenda:
    """At most one time per job, and never a later one than was asked for: bounded by the number of jobs.

    A time that has been overtaken is simply found too early; the caller looks, and sets a new one.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._jobs: set[str] = set()

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def set(self, job_id: str, at: float) -> None:
        """Look at the job at `at`, unless a time is set already."""
        if job_id not in self._jobs:
            self._jobs.add(job_id)
            heapq.heappush(self._heap, (at, job_id))

    def next_at(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[str]:
        """The jobs whose time has come; they are off the agenda."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            job_id = heapq.heappop(self._heap)[1]
            self._jobs.discard(job_id)
            found.append(job_id)
        return found
