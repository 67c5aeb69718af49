"""The HTTP contract against a model of a job's row: senders of every kind, in any order, twice, late and after the end.

The model is written from docs/api.md and shares no code with the hub. It is held against the hub's receiving code over
the in-memory twin, and, with fewer steps, against a hub that serves HTTP on a real MariaDB.
"""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from sha_daemon.config import DatabaseSettings, HubSettings
from sha_daemon.records import Job
from sha_daemon.replies import Problem
from telemetry_common.clock import SystemClock
from testbed.mariadb import PrivateMariaDB
from testbed.memory_database import MemoryDatabase
from tests.faults.conftest import Note
from tests.support.databases import OnMariaDB
from tests.support.hub import running_hub, virtual_hub

JOBS = ("j1", "j2")
FINAL = ("completed", "failed", "cancelled")
DONE: Counter[str] = Counter()
amounts = st.integers(0, 1000)


class Row:
    """A row of backup_jobs and its disks, as docs/api.md says that they are."""

    def __init__(self) -> None:
        self.status, self.phase = "pending", "pending"
        self.seq: int | None = None
        self.moved = self.total = self.speed = self.eta = 0
        self.percent = 0.0
        self.error: str | None = None
        self.disks: dict[int, list[Any]] = {}

    def hear(self, said: dict[str, Any]) -> str:
        """The word of the answer's Telemetry-Result, "" where it applied."""
        seq = said.get("seq")
        if seq is not None and self.seq is not None and seq <= self.seq:
            return "duplicate" if seq == self.seq else "final" if self.status in FINAL else "stale"
        if self.status in FINAL:
            return "final"
        self.seq = self.seq if seq is None else seq
        self._figures(said)
        for disk in said.get("disks", ()):
            self._disk(disk)
        self._status(said)
        return ""

    def _figures(self, said: dict[str, Any]) -> None:
        nothing = not any(said.get(key) for key in ("bytes_transferred", "total_bytes", "progress_percent"))
        total = said.get("total_bytes") or self.total
        self.percent = newer_percent(self.percent, said.get("progress_percent"), grew=total > self.total)
        self.moved, self.total = max(self.moved, said.get("bytes_transferred", 0)), total
        self.phase = said.get("current_phase", self.phase)
        if said.get("transfer_speed_bps") or not nothing:
            self.speed = said.get("transfer_speed_bps", self.speed)
        if said.get("eta_seconds") or not nothing:
            self.eta = said.get("eta_seconds", self.eta)

    def _disk(self, said: dict[str, Any]) -> None:
        disk = self.disks.setdefault(said["disk_index"], ["pending", 0])
        disk[1] = max(disk[1], said.get("bytes_transferred", 0))
        status = {"transferring": "running"}.get(said.get("status", ""), said.get("status", "pending"))
        if status != "pending" and disk[0] != "completed":
            disk[0] = status

    def _status(self, said: dict[str, Any]) -> None:
        status = "failed" if said.get("error") and said["status"] != "cancelled" else said["status"]
        if said.get("error") and status in FINAL:
            self.error = said["error"]["message"]
        if status == "completed":
            self.percent, self.eta = 100.0, 0
            self.moved = max(self.moved, sum(moved for _, moved in self.disks.values()))
        for disk in self.disks.values():
            if status == "completed" or (status in FINAL and disk[0] != "completed"):
                disk[0] = "completed" if status == "completed" else "failed"
        if status != "pending":
            self.status = status

    def shown(self) -> tuple[Any, ...]:
        disks = tuple((index, status, moved) for index, (status, moved) in sorted(self.disks.items()))
        figures = (self.moved, self.total, self.speed, self.eta, self.percent)
        return (self.status, self.phase, self.error, self.seq, figures, disks)


def newer_percent(stored: float, said: float | None, *, grew: bool) -> float:
    if said is None:
        return stored
    return min(said, 100.0) if grew or said >= stored else stored


def shown(job: Job) -> tuple[Any, ...]:
    disks = tuple((disk.disk_index, disk.status, disk.bytes_transferred) for disk in job.disks)
    figures = (job.bytes_transferred, job.total_bytes, job.transfer_speed_bps, job.eta_seconds, job.progress_percent)
    return (job.status, job.current_phase, job.error_message, job.seq, figures, disks)


optional = {
    "seq": st.integers(1, 12),
    "current_phase": st.sampled_from(("snapshot", "transferring")),
    "bytes_transferred": amounts,
    "total_bytes": st.sampled_from((0, 500, 1000)),
    "progress_percent": st.sampled_from((0.0, 12.5, 50.0, 99.99, 100.0, 130.0)),
    "transfer_speed_bps": st.sampled_from((0, 7)),
    "eta_seconds": st.sampled_from((0, 9)),
    "error": st.none() | st.just({"message": "no room"}),
    "age_seconds": st.sampled_from((0.0, 3600.0)),
    "disks": st.lists(
        st.fixed_dictionaries(
            {"disk_index": st.integers(0, 2)},
            optional={
                "bytes_transferred": amounts,
                "status": st.sampled_from(("pending", "transferring", "running", "completed", "failed")),
            },
        ),
        unique_by=lambda disk: disk["disk_index"],
        max_size=3,
    ),
}
statuses = st.sampled_from(("pending",) + ("running",) * 6 + FINAL)
updates = st.fixed_dictionaries({"status": statuses}, optional=optional)


class Contract(RuleBasedStateMachine):
    """`open`, `post` and `row` are the subclass's: one hub over one database."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.rows = {job: Row() for job in JOBS}
        self.runner.run(self.open())
        DONE["runs"] += 1

    @rule(job=st.sampled_from(JOBS), said=updates)
    def update(self, job: str, said: dict[str, Any]) -> None:
        self._heard(job, said, self.runner.run(self.post(job, said)))

    @rule(job=st.sampled_from(JOBS), said=updates)
    def update_twice(self, job: str, said: dict[str, Any]) -> None:
        """A retry after a lost answer."""
        for _ in range(2):
            self._heard(job, said, self.runner.run(self.post(job, said)))

    @rule(said=st.lists(st.tuples(st.sampled_from(JOBS), updates), min_size=2, max_size=6))
    def update_together(self, said: list[tuple[str, dict[str, Any]]]) -> None:
        """At once: each is answered as if it had come behind those before it."""

        async def post_all() -> list[tuple[int, dict[str, str]]]:
            return await asyncio.gather(*(self.post(job, one) for job, one in said))

        for (job, one), answer in zip(said, self.runner.run(post_all()), strict=True):
            self._heard(job, one, answer)

    @rule(job=st.sampled_from(JOBS), key=st.sampled_from(("status", "bytes_transferred", "seq", "disks")))
    def nonsense(self, job: str, key: str) -> None:
        """It is a 400 and changes nothing."""
        assert self.runner.run(self.post(job, {"status": "running"} | {key: "soon"}))[0] == 400
        DONE["refused"] += 1

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            for job, row in self.rows.items():
                assert shown(self.runner.run(self.row(job))) == row.shown()
            self.runner.run(self.stack.aclose())
            self.runner.close()

    def _heard(self, job: str, said: dict[str, Any], answer: tuple[int, dict[str, str]]) -> None:
        row = self.rows[job]
        result = row.hear(said)
        status, headers = answer
        assert (status, headers.get("Telemetry-Result", "")) == (204, result)
        if "seq" in said:
            assert headers["Telemetry-Seq"] == str(row.seq or 0)
            assert headers["Telemetry-Status"] == row.status
        DONE["updates"] += 1

    async def open(self) -> None:
        raise NotImplementedError

    async def post(self, job: str, said: dict[str, Any]) -> tuple[int, dict[str, str]]:
        raise NotImplementedError

    async def row(self, job: str) -> Job:
        raise NotImplementedError


class InMemory(Contract):
    async def open(self) -> None:
        self.database = MemoryDatabase(SystemClock())
        for job in JOBS:
            self.database.add_job(Job(job_id=job, status="pending"))
        self.hub = await self.stack.enter_async_context(virtual_hub(self.database, SystemClock()))

    async def post(self, job: str, said: dict[str, Any]) -> tuple[int, dict[str, str]]:
        try:
            reply = await self.hub.receiver.receive("backup", job, "application/json", msgspec.json.encode(said))
        except Problem as problem:
            return problem.status, {}
        return reply.status, dict(reply.headers)

    async def row(self, job: str) -> Job:
        return self.database.tables.jobs[job].job


class OverHttp(Contract):
    settings_of_hub: ClassVar[DatabaseSettings]

    async def open(self) -> None:
        self.tables = OnMariaDB(self.settings_of_hub)
        self.stack.callback(self.tables.close)
        self.stack.push_async_callback(self.tables.database.close)
        for table in ("telemetry_history", "backup_disks", "backup_jobs"):
            self.tables.execute(f"DELETE FROM {table}")
        for job in JOBS:
            self.tables.add_job(Job(job_id=job, status="pending"))
        hub = running_hub(HubSettings(database=self.settings_of_hub))
        _, self.client = await self.stack.enter_async_context(hub)

    async def post(self, job: str, said: dict[str, Any]) -> tuple[int, dict[str, str]]:
        async with self.client.post(f"/api/v1/telemetry/backup/{job}", json=said) as answer:
            return answer.status, dict(answer.headers)

    async def row(self, job: str) -> Job:
        view = await self.tables.database.run(lambda session: session.job(job))
        assert view is not None
        return view.job


def run(machine: type[Contract], note: Note, *, runs: int, steps: int) -> None:
    DONE.clear()
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    assert all(DONE[what] for what in ("runs", "updates", "refused")), "a rule was never applied"
    note(**DONE)


def test_the_receiving_code_is_what_the_model_of_a_row_says(note: Note) -> None:
    run(InMemory, note, runs=300, steps=30)


@pytest.mark.integration
def test_a_hub_on_a_real_database_is_what_the_model_of_a_row_says(
    migrated_database: DatabaseSettings, mariadb_server: PrivateMariaDB, note: Note
) -> None:
    OverHttp.settings_of_hub = migrated_database
    run(OverHttp, note, runs=12, steps=20)
