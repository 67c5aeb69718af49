"""What the sidecar is told of a wrapped run: its beginning, its figures, how it ended."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sbc_daemon.client import Job
from sbc_daemon.client_wire import socket_path
from sbc_daemon.report.process import complain
from sbc_daemon.report.tools import Tool

HIGHEST_PERCENT = 99.0
"""Until the exit status says so, nothing is finished."""
CONFIRM_SECONDS = 2.0
"""So long the end of a run waits for the sidecar to have it safe on its disk."""
ABSENT_SECONDS = 0.3
"""The same where no sidecar is to be seen: time for one that is just being restarted."""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """`disk` and `of`: the tool copies this disk of a job that has `of`. Without a job id the tool runs unreported."""

    command: list[str]
    job_id: str | None = None
    socket: str | None = None
    disk: int | None = None
    of: int | None = None
    total_bytes: int | None = None
    timeout_seconds: float | None = None
    phase: str = "transferring"


class Telling:
    """Nothing here can fail or delay the tool, also without a usable job id; only the two ends wait, in bounds."""

    def __init__(self, orders: Orders) -> None:
        self._disk = orders.disk
        self._total = orders.total_bytes
        self._fixed_total = orders.total_bytes is not None
        self._best = 0
        self._job = _announced(orders)

    def progress(self, tool: Tool) -> None:
        """The newest figures: bytes where the total is known, else the tool's percentage; never the whole."""
        if tool.percent is not None:
            self._say(lambda job: self._figures(job, tool, tool.percent or 0.0))

    def completed(self, tool: Tool) -> None:
        self._say(lambda job: self._whole(job, tool))
        self._say(lambda job: job.done(timeout=_patience(job)))

    def failed(self, reason: str) -> None:
        self._say(lambda job: job.fail(reason, timeout=_patience(job)))

    def _say(self, say: Callable[[Job], object]) -> None:
        if self._job is not None:
            try:
                say(self._job)
            except (ValueError, OSError, RuntimeError) as error:
                complain(f"cannot report: {error}; the command is not disturbed")

    def _figures(self, job: Job, tool: Tool, percent: float) -> None:
        self._learn_total(job, tool, ended=False)
        if self._total is None:
            job.percent(min(percent, HIGHEST_PERCENT), disk=self._disk)
            return
        done = min(tool.done(self._total) or 0, int(self._total * HIGHEST_PERCENT / 100))
        self._best = max(self._best, done)
        job.progress(self._best, disk=self._disk)

    def _whole(self, job: Job, tool: Tool) -> None:
        self._learn_total(job, tool, ended=True)
        if self._total is not None:
            job.progress(self._total, disk=self._disk)

    def _learn_total(self, job: Job, tool: Tool, *, ended: bool) -> None:
        found = None if self._fixed_total else tool.total(ended=ended)
        if found is not None and found != self._total:
            self._total = found
            job.total(found, disk=self._disk)


def _announced(orders: Orders) -> Job | None:
    if not orders.job_id:
        complain("cannot report without a job: give --job or set SBC_JOB_ID; the command runs all the same")
        return None
    path = str(Path(socket_path(orders.socket)).absolute())  # also for a command that changes its directory
    os.environ["SBC_JOB_ID"], os.environ["SBC_SOCKET"] = orders.job_id, path
    whole_job = orders.disk is None or orders.of is None
    own = None if whole_job else ([orders.disk or 0], orders.of or 1)
    sizes = {} if orders.disk is None or orders.total_bytes is None else {orders.disk: orders.total_bytes}
    total = orders.total_bytes if orders.disk is None else None
    try:
        return Job(orders.job_id, total_bytes=total, disks=sizes, phase=orders.phase, attach_disks=own, path=path)
    except (ValueError, OSError, RuntimeError) as error:  # a wrong id; no descriptor or no thread left
        complain(f"cannot report: {error}; the command runs all the same")
        return None


def _patience(job: Job) -> float:
    return CONFIRM_SECONDS if job.connected else ABSENT_SECONDS
