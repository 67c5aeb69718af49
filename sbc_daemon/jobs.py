"""The jobs in memory, bounded: those that run, and the latest that ended (so that a line after the end is refused)."""

import heapq
from collections.abc import Iterator

from sbc_daemon.job_memory import JobMemory
from sbc_daemon.tracker import LineRefused

MAX_RUNNING = 20_000
"""Jobs without an end. Beyond it those not heard of for longest are forgotten, but for those of living producers."""
MAX_DISKS_IN_ALL = 100_000
"""Of jobs without an end, together; each takes some 200 bytes. Beyond it likewise."""
MAX_ENDED = 4096
_AT_A_TIME = 200
"""Forgotten at once, so that the search for them is rare."""


class Jobs:
    def __init__(self) -> None:
        self._running: dict[str, JobMemory] = {}
        self._ended: dict[str, JobMemory] = {}
        self._disks = 0

    def get(self, job_id: str) -> JobMemory | None:
        return self._running.get(job_id) or self._ended.get(job_id)

    def add(self, memory: JobMemory) -> None:
        """Raises LineRefused when every one of MAX_RUNNING jobs, or of those with MAX_DISKS_IN_ALL disks, has a living
        producer."""
        if memory.state.ended:
            self.ended(memory)
            return
        if len(self._running) >= MAX_RUNNING:
            self._forget_silent()
        if len(self._running) >= MAX_RUNNING:
            raise LineRefused(f"cannot follow more than {MAX_RUNNING} jobs at once; end some of them")
        self.make_room_for_disks(len(memory.state.disks))
        self._running[memory.state.job_id] = memory
        self._disks += len(memory.state.disks)

    def make_room_for_disks(self, more: int) -> None:
        """Raises LineRefused when so many more would be too many, and all have living producers."""
        while self._disks + more > MAX_DISKS_IN_ALL:
            before = len(self._running)
            self._forget_silent()
            if len(self._running) == before:
                raise LineRefused(f"cannot follow more than {MAX_DISKS_IN_ALL} disks at once; end some of their jobs")

    def has_grown(self, disks: int) -> None:
        """So many disks are new to a job that is here."""
        self._disks += disks

    def ended(self, memory: JobMemory) -> None:
        """The job has had its last word. Before it is shrunk."""
        if self._running.pop(memory.state.job_id, None) is not None:
            self._disks -= len(memory.state.disks)
        self._ended[memory.state.job_id] = memory
        while len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]

    def running(self) -> Iterator[JobMemory]:
        return iter(self._running.values())

    def latest_ended(self, count: int) -> list[JobMemory]:
        """Newest first."""
        return list(reversed(self._ended.values()))[:count]

    def running_count(self) -> int:
        return len(self._running)

    def _forget_silent(self) -> None:
        unattached = (memory for memory in self._running.values() if not memory.attached)
        for memory in heapq.nsmallest(_AT_A_TIME, unattached, key=lambda memory: memory.heard_at):
            del self._running[memory.state.job_id]
            self._disks -= len(memory.state.disks)
