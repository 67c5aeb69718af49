"""What lines make of a job, and what is said of it. Times are monotonic seconds."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from sbc_daemon.job_memory import JobFacts, JobMemory, from_json
from sbc_daemon.snapshot import snapshot
from sbc_daemon.tracker import LineRefused, merge
from telemetry_common.clock import Moment
from telemetry_common.contract import MAX_DISKS, AttachedDisks, DiskReport, ErrorInfo, Line, Update

FIRST_OF_TWO, SECOND_OF_TWO = AttachedDisks((0,), 2), AttachedDisks((1,), 2)
TORN = ErrorInfo("cable torn")
MOMENT = Moment(wall=1000.0, boot=500.0, boot_id="this")


def job(*lines: Line, share: AttachedDisks | None = None) -> JobMemory:
    memory = JobMemory(JobFacts("j1"), 0.0)
    for line in lines:
        merge(memory, line, 0.0, share)
    return memory


def said(memory: JobMemory, now: float = 0.0) -> Update:
    return snapshot(memory, now)


def disk(index: int, **fields: Any) -> DiskReport:
    return DiskReport(disk_index=index, **fields)


def test_a_first_line_without_status_means_running() -> None:
    assert said(job(Line(bytes_transferred=5))).status == "running"


def test_a_job_may_begin_pending_and_stays_so_until_told() -> None:
    memory = job(Line(status="pending"), Line(bytes_transferred=0))
    assert said(memory).status == "pending"
    merge(memory, Line(status="running"), 0.0)
    assert said(memory).status == "running"


def test_running_never_goes_back_to_pending() -> None:
    assert said(job(Line(status="running"), Line(status="pending"))).status == "running"


def test_absent_means_unchanged() -> None:
    update = said(job(Line(current_phase="snapshot", bytes_transferred=5, total_bytes=10), Line()))
    assert (update.current_phase, update.bytes_transferred, update.total_bytes) == ("snapshot", 5, 10)


def test_what_nobody_said_is_left_out() -> None:
    update = said(job(Line()))
    assert update == Update(job_id="j1", status="running")


def test_bytes_never_fall_of_job_or_disk() -> None:
    memory = job(Line(bytes_transferred=50), Line(bytes_transferred=40))
    merge(memory, Line(disks=(disk(0, bytes_transferred=70),)), 0.0)
    merge(memory, Line(disks=(disk(0, bytes_transferred=60),)), 0.0)
    update = said(memory)
    assert update.bytes_transferred == 70
    assert update.disks is not UNSET
    assert update.disks[0].bytes_transferred == 70


def test_a_total_of_zero_says_nothing_and_a_greater_one_replaces() -> None:
    assert said(job(Line(total_bytes=10), Line(total_bytes=0))).total_bytes == 10
    assert said(job(Line(total_bytes=10), Line(total_bytes=20))).total_bytes == 20


def test_disks_are_merged_by_index_and_said_in_order() -> None:
    memory = job(Line(disks=(disk(1, bytes_transferred=3),)), Line(disks=(disk(0, total_bytes=9),)))
    merge(memory, Line(disks=(disk(1, total_bytes=6),)), 0.0)
    assert said(memory).disks == (
        disk(0, total_bytes=9),
        disk(1, status="running", bytes_transferred=3, total_bytes=6, progress_percent=50.0),
    )


def test_the_jobs_figures_are_the_sum_over_its_disks() -> None:
    update = said(job(Line(disks=(disk(0, bytes_transferred=30, total_bytes=100), disk(1, total_bytes=50)))))
    assert (update.bytes_transferred, update.total_bytes, update.progress_percent) == (30, 150, 20.0)


def test_the_total_waits_until_every_disks_is_known() -> None:
    update = said(job(Line(disks=(disk(0, bytes_transferred=100, total_bytes=100), disk(1)))))
    assert update.total_bytes is UNSET
    assert update.progress_percent is UNSET


def test_a_producers_percent_is_a_hint() -> None:
    assert said(job(Line(progress_percent=50.0, bytes_transferred=1, total_bytes=100))).progress_percent == 1.0
    assert said(job(Line(progress_percent=50.0))).progress_percent == 50.0


@pytest.mark.parametrize("line", [Line(progress_percent=100.0), Line(bytes_transferred=12, total_bytes=10)])
def test_a_hundred_percent_is_never_shown_before_the_end(line: Line) -> None:
    memory = job(line)
    assert said(memory).progress_percent == 99.99
    merge(memory, Line(status="failed"), 0.0)
    assert said(memory).progress_percent == 99.99


def test_completed_is_a_hundred_percent_with_nothing_left_to_wait_for() -> None:
    update = said(job(Line(bytes_transferred=1, total_bytes=10), Line(status="completed")))
    assert (update.status, update.progress_percent, update.eta_seconds) == ("completed", 100.0, 0)


def test_speed_and_eta_are_derived_from_the_last_seconds() -> None:
    memory = job(Line(bytes_transferred=0, total_bytes=10_000))
    for second in range(1, 11):
        merge(memory, Line(bytes_transferred=second * 100), float(second))
    update = said(memory, 10.0)
    assert (update.transfer_speed_bps, update.eta_seconds) == (100, 90)


def test_what_a_producer_says_of_speed_and_eta_is_taken() -> None:
    update = said(job(Line(transfer_speed_bps=7, eta_seconds=2**40)))
    assert (update.transfer_speed_bps, update.eta_seconds) == (7, 2**31 - 1)


def test_what_a_producer_leaves_out_with_new_bytes_is_derived_again() -> None:
    memory = job(Line(bytes_transferred=0, total_bytes=1000, transfer_speed_bps=7, eta_seconds=3))
    merge(memory, Line(current_phase="transferring"), 0.0)
    assert (said(memory, 1.0).transfer_speed_bps, said(memory, 1.0).eta_seconds) == (7, 3)
    merge(memory, Line(bytes_transferred=400), 4.0)
    assert (said(memory, 4.0).transfer_speed_bps, said(memory, 4.0).eta_seconds) == (100, 6)


def test_what_a_producer_said_of_its_pace_does_not_outlive_its_silence() -> None:
    memory = job(Line(bytes_transferred=5, total_bytes=1000, transfer_speed_bps=7, eta_seconds=3))
    assert (said(memory, 15.0).transfer_speed_bps, said(memory, 15.0).eta_seconds) == (7, 3)
    assert (said(memory, 15.1).transfer_speed_bps, said(memory, 15.1).eta_seconds) == (0, UNSET)


def test_a_stalled_copy_has_no_speed_and_no_arrival_after_the_window() -> None:
    memory = job(Line(bytes_transferred=0, total_bytes=10_000))
    for half in range(1, 41):
        merge(memory, Line(bytes_transferred=half * 50), half / 2)
    assert (said(memory, 20.0).transfer_speed_bps, said(memory, 20.0).eta_seconds) == (100, 80)
    assert said(memory, 25.1).eta_seconds is UNSET
    assert said(memory, 35.0).transfer_speed_bps == 0
    assert said(memory, 3600.0).transfer_speed_bps == 0


TOTALS: dict[str, tuple[list[Line], float | Any, int | Any]] = {
    "unknown": ([Line(bytes_transferred=600)], UNSET, UNSET),
    "unknown, said as 0": ([Line(bytes_transferred=600, total_bytes=0)], UNSET, UNSET),
    "unknown, a percentage is said": ([Line(bytes_transferred=600, progress_percent=40.0)], 40.0, UNSET),
    "known late": ([Line(bytes_transferred=600), Line(total_bytes=1000)], 60.0, 4),
    "grown": ([Line(total_bytes=1000), Line(bytes_transferred=600), Line(total_bytes=6000)], 10.0, 54),
    "shrunk": ([Line(total_bytes=6000), Line(bytes_transferred=600), Line(total_bytes=1000)], 60.0, 4),
    "reached, and not at the end": ([Line(bytes_transferred=600, total_bytes=600)], 99.99, 0),
    "wrong: more has moved": ([Line(bytes_transferred=600, total_bytes=500)], 99.99, UNSET),
    "almost reached": ([Line(bytes_transferred=600, total_bytes=601)], 99.83, 1),
    "nothing has moved": ([Line(total_bytes=1000)], 0.0, UNSET),
}


@pytest.mark.parametrize(("lines", "percent", "eta"), TOTALS.values(), ids=TOTALS.keys())
def test_progress_and_arrival_with_a_total_that_is(lines: list[Line], percent: Any, eta: Any) -> None:
    memory = job(Line(bytes_transferred=0))
    for line in lines:
        merge(memory, line, 6.0)
    update = said(memory, 6.0)
    assert (update.progress_percent, update.eta_seconds) == (percent, eta)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_line_after_the_end_is_refused_and_told_to_take_a_new_job_id(status: Any) -> None:
    memory = job(Line(status=status))
    with pytest.raises(LineRefused, match=f"ended as {status}; a new run needs a new job_id"):
        merge(memory, Line(bytes_transferred=5), 0.0)
    assert said(memory).bytes_transferred is UNSET


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (Line(error=TORN), "failed"),
        (Line(status="running", error=TORN), "failed"),
        (Line(status="completed", error=TORN), "failed"),
        (Line(status="cancelled", error=TORN), "cancelled"),
        (Line(status="completed", error=None), "completed"),
    ],
)
def test_an_error_ends_a_job_as_the_hub_has_it(line: Line, status: str) -> None:
    update = said(job(line))
    assert update.status == status
    assert update.error == (line.error or UNSET)


def test_a_jobs_end_is_also_its_disks_end() -> None:
    memory = job(Line(disks=(disk(0, status="completed"), disk(1, status="running"))), Line(status="failed"))
    assert [state.status for state in memory.state.disks.values()] == ["completed", "failed"]


def test_that_all_disks_are_complete_does_not_end_a_job() -> None:
    assert said(job(Line(disks=(disk(0, status="completed"),)))).status == "running"


def test_a_disk_that_moves_bytes_runs_also_when_nobody_said_so() -> None:
    memory = job(Line(disks=(disk(0, status="pending"), disk(1, bytes_transferred=4))))
    assert [state.status for state in memory.state.disks.values()] == ["pending", "running"]


def test_more_disks_than_can_be_told_are_refused_and_nothing_has_changed() -> None:
    memory = job(Line(disks=tuple(disk(index) for index in range(MAX_DISKS))))
    with pytest.raises(LineRefused, match="cannot follow more than 1024 disks"):
        merge(memory, Line(disks=(disk(MAX_DISKS),), bytes_transferred=5), 0.0)
    assert memory.state.bytes_transferred is None
    assert not merge(memory, Line(disks=(disk(0),)), 0.0)


def test_a_share_of_more_disks_than_can_be_told_is_refused_before_its_end_could_make_them() -> None:
    memory = job()
    with pytest.raises(LineRefused, match="cannot follow more than 1024 disks"):
        merge(memory, Line(status="failed"), 0.0, AttachedDisks((0,), MAX_DISKS + 1))
    assert not memory.state.disks


def test_a_job_of_two_producers_completes_with_the_second() -> None:
    memory = job(Line(status="completed", bytes_transferred=7), share=FIRST_OF_TWO)
    assert said(memory).status == "running"
    merge(memory, Line(status="completed"), 0.0, SECOND_OF_TWO)
    assert said(memory).status == "completed"
    assert said(memory).bytes_transferred == 7


def test_a_job_of_two_producers_fails_when_all_have_ended_and_keeps_the_failed_ones_error() -> None:
    memory = job(Line(status="failed", error=TORN), share=FIRST_OF_TWO)
    assert (said(memory).status, said(memory).error) == ("running", UNSET)
    merge(memory, Line(status="completed"), 0.0, SECOND_OF_TWO)
    assert (said(memory).status, said(memory).error) == ("failed", TORN)


def test_a_final_status_of_its_disks_is_a_producers_end() -> None:
    memory = job(Line(disks=(disk(0, status="completed"),)), share=FIRST_OF_TWO)
    merge(memory, Line(disks=(disk(1, status="failed"),), error=TORN), 0.0, SECOND_OF_TWO)
    assert (said(memory).status, said(memory).error) == ("failed", TORN)


def test_cancelled_is_said_of_the_whole_job() -> None:
    assert said(job(Line(status="cancelled"), share=FIRST_OF_TWO)).status == "cancelled"


def test_the_figures_of_a_producer_of_all_disks_are_the_jobs() -> None:
    assert said(job(Line(bytes_transferred=5), share=AttachedDisks((0, 1), 2))).bytes_transferred == 5
    assert said(job(Line(bytes_transferred=5), share=AttachedDisks((0, 1), 3))).bytes_transferred is UNSET


def test_the_figures_of_a_producer_of_one_disk_are_that_disks() -> None:
    memory = job(Line(bytes_transferred=5, total_bytes=10, transfer_speed_bps=3), share=SECOND_OF_TWO)
    update = said(memory)
    assert update.disks == (disk(1, status="running", bytes_transferred=5, total_bytes=10, progress_percent=50.0),)
    assert (update.total_bytes, update.transfer_speed_bps) == (UNSET, UNSET)


@pytest.mark.parametrize(
    ("share", "reason"),
    [(AttachedDisks((0,), 3), "it has 2 disks, not 3"), (AttachedDisks((0, 1, 2), 2), "more disks are named")],
)
def test_producers_that_contradict_each_other_are_refused(share: AttachedDisks, reason: str) -> None:
    memory = job(Line(), share=FIRST_OF_TWO)
    with pytest.raises(LineRefused, match=reason):
        merge(memory, Line(status="completed"), 0.0, share)


def test_an_attached_job_tells_how_long_its_producer_has_been_silent() -> None:
    memory = job(Line())
    assert said(memory, 9.0).idle_seconds is UNSET
    memory.producers = 1
    assert said(memory, 9.0).idle_seconds == 9.0
    merge(memory, Line(), 9.0)
    assert said(memory, 9.0).idle_seconds == 0.0


def test_only_changes_of_state_are_reported_as_such() -> None:
    memory = JobMemory(JobFacts("j1"), 0.0)
    assert merge(memory, Line(status="running"), 0.0)
    assert not merge(memory, Line(status="running", bytes_transferred=5), 0.0)
    assert merge(memory, Line(current_phase="transferring"), 0.0)
    assert not merge(memory, Line(current_phase="transferring"), 0.0)
    assert merge(memory, Line(disks=(disk(0, status="transferring"),)), 0.0)
    assert merge(memory, Line(status="completed"), 0.0)


def test_a_job_survives_a_restart_as_it_was() -> None:
    memory = job(Line(disks=(disk(3, bytes_transferred=5),), current_phase="snapshot"), share=FIRST_OF_TWO)
    restored = from_json(memory.to_json(5.0, MOMENT), 99.0, MOMENT)
    assert restored.state == memory.state
    assert said(restored, 99.0) == said(memory, 5.0)


def test_a_job_is_as_silent_after_a_restart_as_before() -> None:
    memory = job(Line(current_phase="snapshot"))
    kept = memory.to_json(60.0, MOMENT)
    ten_seconds_later = Moment(wall=5.0, boot=510.0, boot_id="this")
    assert from_json(kept, 7.0, ten_seconds_later).heard_at == 7.0 - 70.0


_amounts = st.integers(0, 2**63 - 1)
_disks = st.lists(
    st.builds(disk, st.integers(0, 3), bytes_transferred=_amounts, total_bytes=_amounts, progress_percent=st.floats(0)),
    unique_by=lambda report: report.disk_index,
    max_size=4,
).map(tuple)
_lines = st.builds(
    Line,
    status=st.sampled_from(["pending", "running", "completed", "failed"]),
    bytes_transferred=_amounts,
    total_bytes=_amounts,
    progress_percent=st.floats(0),
    disks=_disks,
    error=st.sampled_from([None, TORN]),
)
_shares = st.sampled_from([None, FIRST_OF_TWO, SECOND_OF_TWO])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(_lines, _shares), max_size=12))
def test_whatever_lines_come_bytes_only_grow_and_the_snapshot_is_within_the_contract(
    lines: list[tuple[Line, AttachedDisks | None]],
) -> None:
    memory, before = job(Line()), 0
    for now, (line, share) in enumerate(lines):
        if not memory.state.ended:
            merge(memory, line, float(now), share)
        update = said(memory, float(now))
        assert update.bytes_transferred is UNSET or update.bytes_transferred >= before
        before = update.bytes_transferred or before
        assert update.progress_percent is UNSET or 0 <= update.progress_percent <= 100
        assert all(0 <= figure <= 2**63 - 1 for figure in (update.bytes_transferred or 0, update.total_bytes or 0))
