"""What the sidecar remembers is bounded, however many disks a job has and however long its error is."""

import pytest

from sbc_daemon import jobs as bounds
from sbc_daemon.intake import MAX_PENDING
from sbc_daemon.job_memory import DiskState, JobFacts, JobMemory
from sbc_daemon.jobs import Jobs
from sbc_daemon.pending import Draft, Pending
from sbc_daemon.spillover import MAX_BYTES, Spillover
from sbc_daemon.tracker import MAX_JOB_TYPE, LineRefused, merge
from telemetry_common.clock import Moment
from telemetry_common.contract import DiskReport, Line, Update, encode
from tests.support.messages import end, message

DISKS = 1000


def job(name: str, heard_at: float = 0.0, *, disks: int = DISKS, attached: bool = False) -> JobMemory:
    memory = JobMemory(JobFacts(name, disks={number: DiskState() for number in range(disks)}), heard_at)
    memory.producers = int(attached)
    return memory


def test_of_too_many_disks_the_jobs_that_are_silent_for_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_AT_A_TIME", 10)
    jobs = Jobs()
    fit = bounds.MAX_DISKS_IN_ALL // DISKS
    for number in range(fit + 1):
        jobs.add(job(f"j{number}", heard_at=float(number)))
    assert jobs.running_count() == fit + 1 - 10
    assert jobs.get("j0") is None
    assert jobs.get(f"j{fit}") is not None


def test_disks_of_living_producers_are_kept_and_further_ones_refused() -> None:
    jobs = Jobs()
    for number in range(bounds.MAX_DISKS_IN_ALL // DISKS):
        jobs.add(job(f"j{number}", attached=True))
    with pytest.raises(LineRefused, match="disks at once"):
        jobs.add(job("one too many"))
    ending = jobs.get("j0")
    assert ending is not None
    jobs.ended(ending)
    jobs.add(job("in its place"))


def test_a_state_that_tells_of_many_disks_weighs_more() -> None:
    pending = Pending()
    disks = tuple(DiskReport(disk_index=number) for number in range(DISKS))
    update = Update(status="running", disks=disks)
    for _ in range(200):
        pending.add(Draft("j1", update, "phase", Moment(0.0, 0.0, "boot-1")))
    assert pending.weight > MAX_PENDING
    pending.take()
    assert pending.weight == 0


def test_what_the_disk_refuses_is_held_up_to_so_many_bytes_and_ends_stay_longest() -> None:
    held = Spillover()
    size = 50_000
    held.hold([end(1, "ended")])
    held.hold(message(number + 2, job=f"j{number}", size=size) for number in range(2 * MAX_BYTES // size))
    waiting = [held.pending(job_id) for job_id in held.waiting()]
    assert sum(len(encode(entry.message.update)) for entry in waiting if entry is not None) <= MAX_BYTES
    assert "ended" in held.waiting()
    assert "j0" not in held.waiting()


def test_the_name_of_a_jobs_type_is_no_place_to_keep_things() -> None:
    memory = job("j1", disks=0)
    with pytest.raises(LineRefused, match="job_type"):
        merge(memory, Line(job_type="x" * (MAX_JOB_TYPE + 1)), 0.0)
    assert merge(memory, Line(job_type="backup"), 0.0)
