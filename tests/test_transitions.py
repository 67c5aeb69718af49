"""What an update does to a job. One table for the states, sentences for the rest."""

from typing import Any

import pytest
from msgspec import convert, structs

from sha_daemon.records import Disk, Job
from sha_daemon.transitions import Decision, Receipt, decide, failed_by_watchdog
from telemetry_common.contract import MAX_DISKS, Update

NOW = Receipt(at=1_760_000_000.0, heard_us=77_000_000)
VERDICT = "Job stalled - no telemetry for 5m12s (SBC may have crashed)"


def job(status: str = "running", **fields: Any) -> Job:
    return convert({"job_id": "j1", "status": status} | fields, Job)


def stalled(**fields: Any) -> Job:
    """A job as the watchdog left it."""
    mark: dict[str, Any] = {
        "error_message": VERDICT,
        "watchdog_message": VERDICT,
        "watchdog_failed_at": 5.0,
        "completed_at": 5.0,
    }
    mark |= {"status": "failed", "last_telemetry_at": NOW.at - 400}
    return convert({"job_id": "j1"} | mark | fields, Job)


def say(stored: Job, status: str = "running", **fields: Any) -> Decision:
    return decide(stored, convert({"status": status} | fields, Update), NOW)


ERROR = {"message": "disk full", "code": "ENOSPC"}


@pytest.mark.parametrize(
    ("stored", "says", "error", "becomes"),
    [
        ("pending", "pending", None, "pending"),
        ("pending", "running", None, "running"),
        ("running", "pending", None, "running"),
        ("running", "running", None, "running"),
        ("pending", "completed", None, "completed"),
        ("running", "completed", None, "completed"),
        ("pending", "failed", None, "failed"),
        ("running", "failed", ERROR, "failed"),
        ("pending", "pending", ERROR, "failed"),
        ("running", "running", ERROR, "failed"),
        ("running", "completed", ERROR, "failed"),
        ("pending", "completed", ERROR, "failed"),
        ("pending", "running", ERROR, "failed"),
        ("pending", "failed", ERROR, "failed"),
        ("running", "pending", ERROR, "failed"),
        ("running", "failed", None, "failed"),
        ("running", "cancelled", None, "cancelled"),
        ("pending", "cancelled", None, "cancelled"),
        ("pending", "cancelled", ERROR, "cancelled"),
        ("running", "cancelled", ERROR, "cancelled"),
    ],
)
def test_states(stored: str, says: str, error: object, becomes: str) -> None:
    decision = say(job(stored), says, error=error)
    assert (decision.result, decision.job.status) == ("applied", becomes)
    assert decision.job.error_message == ("disk full [ENOSPC]" if error else None)
    assert decision.job.completed_at == (None if becomes in ("pending", "running") else NOW.at)


@pytest.mark.parametrize("ended", ["completed", "cancelled", "failed"])
@pytest.mark.parametrize("says", ["pending", "running", "completed", "failed", "cancelled"])
def test_an_end_is_final_whatever_is_said_later(ended: str, says: str) -> None:
    stored = job(ended, bytes_transferred=5, error_message="by report")
    decision = say(stored, says, bytes_transferred=99, seq=7)
    assert (decision.result, decision.job, decision.disks) == ("final", stored, ())


def test_running_sets_the_start_once() -> None:
    started = say(job("pending"), age_seconds=30).job
    assert started.started_at == NOW.at - 30
    assert say(started).job.started_at == NOW.at - 30


def test_completed_job_takes_the_sum_over_its_disks_and_completes_them() -> None:
    disks = [{"disk_index": 0, "row_id": 1, "bytes_transferred": 700, "status": "running"},
             {"disk_index": 1, "row_id": 2, "bytes_transferred": 300, "status": "completed", "progress_percent": 100},
             ]  # fmt: skip
    decision = say(job(disks=disks, eta_seconds=9), "completed")
    assert (decision.job.bytes_transferred, decision.job.progress_percent, decision.job.eta_seconds) == (1000, 100.0, 0)
    assert [disk.status for disk in decision.job.disks] == ["completed", "completed"]
    assert [disk.disk_index for disk in decision.disks] == [0]


def test_a_disk_that_another_program_completed_shows_it_but_keeps_its_time() -> None:
    disks = [{"disk_index": 0, "bytes_transferred": 700, "status": "completed", "completed_at": 5.0}]
    (disk,) = say(job(disks=disks), "completed").disks
    assert (disk.progress_percent, disk.completed_at) == (100.0, 5.0)


def test_a_sum_over_disks_that_no_column_could_hold_is_stored_as_its_greatest() -> None:
    disks = [{"disk_index": index, "bytes_transferred": 2**63 - 1} for index in (0, 1)]
    assert say(job(disks=disks), "completed").job.bytes_transferred == 2**63 - 1


@pytest.mark.parametrize(("stored", "reported", "kept"), [(1500, 0, 1500), (0, 2000, 2000), (1, 2, 1000)])
def test_a_greater_figure_than_the_sum_over_the_disks_stands(stored: int, reported: int, kept: int) -> None:
    disks = [{"disk_index": 0, "bytes_transferred": 1000}]
    decision = say(job(bytes_transferred=stored, disks=disks), "completed", bytes_transferred=reported)
    assert decision.job.bytes_transferred == kept


@pytest.mark.parametrize("says", ["failed", "cancelled"])
def test_an_end_without_success_fails_the_disks_not_yet_completed(says: str) -> None:
    disks = [{"disk_index": 0, "status": "completed"}, {"disk_index": 1, "status": "running"}, {"disk_index": 2}]
    assert [d.status for d in say(job(disks=disks), says).job.disks] == ["completed", "failed", "failed"]


def test_that_all_disks_are_complete_does_not_end_the_job() -> None:
    decision = say(job(), disks=[{"disk_index": 0, "status": "completed"}])
    assert (decision.job.status, decision.job.disks[0].status) == ("running", "completed")


def test_bytes_only_grow() -> None:
    decision = say(job(bytes_transferred=10), bytes_transferred=7, total_bytes=100)
    assert (decision.job.bytes_transferred, decision.job.total_bytes) == (10, 100)


@pytest.mark.parametrize(
    ("stored", "total", "reported", "new_total", "kept"),
    [
        (40.0, 100, 50.0, 100, 50.0),
        (40.0, 100, 30.0, 100, 40.0),
        (40.0, 100, 30.0, 200, 30.0),
        (40.0, 100, 30.0, 0, 40.0),
        (40.0, 100, 250.0, 100, 100.0),
        (0.0, 0, 33.336, 0, 33.34),
    ],
)
def test_percent_falls_only_where_the_total_grew(
    stored: float, total: int, reported: float, new_total: int, kept: float
) -> None:
    before = job(progress_percent=stored, total_bytes=total)
    assert say(before, progress_percent=reported, total_bytes=new_total).job.progress_percent == kept


def test_a_total_is_replaced_by_any_but_zero() -> None:
    assert say(job(total_bytes=100), total_bytes=90).job.total_bytes == 90
    assert say(job(total_bytes=100), total_bytes=0).job.total_bytes == 100


def test_zeros_in_a_message_without_figures_are_no_news() -> None:
    before = job(transfer_speed_bps=50, eta_seconds=60)
    after = say(before, transfer_speed_bps=0, eta_seconds=0, bytes_transferred=0, total_bytes=0, progress_percent=0).job
    assert (after.transfer_speed_bps, after.eta_seconds) == (50, 60)


def test_a_speed_of_zero_beside_figures_says_that_the_transfer_stands_still() -> None:
    after = say(
        job(transfer_speed_bps=50, eta_seconds=60), transfer_speed_bps=0, eta_seconds=0, bytes_transferred=5
    ).job
    assert (after.transfer_speed_bps, after.eta_seconds) == (0, 0)


def test_an_eta_beyond_the_column_is_stored_as_its_greatest() -> None:
    assert say(job(), eta_seconds=10**30).job.eta_seconds == 2**31 - 1


def test_absent_clears_only_the_idle_time() -> None:
    before = job(current_phase="snapshot", idle_seconds=9, seq=4)
    after = say(before).job
    assert (after.current_phase, after.idle_seconds, after.seq) == ("snapshot", None, 4)


def test_hearing_a_job_sets_the_hubs_own_time_whatever_the_age() -> None:
    after = say(job(), age_seconds=3600, timestamp="1999-01-01T00:00:00Z").job
    assert (after.last_telemetry_at, after.heard_us) == (NOW.at, NOW.heard_us)


def test_an_end_is_dated_when_it_happened() -> None:
    assert say(job(), "completed", age_seconds=3 * 86400).job.completed_at == NOW.at - 3 * 86400
    assert say(job(), "completed", age_seconds=1e300).job.completed_at == 1.0


def test_a_job_has_no_more_disks_than_a_message_may_have_and_the_rest_of_the_update_applies() -> None:
    full = job(disks=[{"disk_index": index} for index in range(MAX_DISKS)])
    more = [{"disk_index": 0, "bytes_transferred": 5}, {"disk_index": 60_000, "bytes_transferred": 6}]
    decision = say(full, bytes_transferred=7, disks=more)
    assert decision.disks_beyond == (60_000,)
    assert [disk.disk_index for disk in decision.disks] == [0]
    assert (decision.job.bytes_transferred, len(decision.job.disks)) == (7, MAX_DISKS)


def test_the_sum_over_the_disks_is_no_more_than_the_column_holds() -> None:
    disks = [{"disk_index": index, "bytes_transferred": 2**63 - 1} for index in range(2)]
    assert say(job(disks=disks), "completed").job.bytes_transferred == 2**63 - 1


def test_disks_are_merged_by_index_and_new_ones_added() -> None:
    before = job(disks=[{"disk_index": 1, "row_id": 9, "bytes_transferred": 50, "total_bytes": 100}])
    decision = say(
        before, disks=[{"disk_index": 1, "bytes_transferred": 40}, {"disk_index": 0, "status": "transferring"}]
    )
    assert decision.job.disks == (
        Disk(disk_index=0, status="running"),
        Disk(disk_index=1, row_id=9, bytes_transferred=50, total_bytes=100),
    )
    assert [disk.disk_index for disk in decision.disks] == [0]


@pytest.mark.parametrize(
    ("stored", "says", "becomes"),
    [
        ("pending", "transferring", "running"),
        ("running", "pending", "running"),
        ("running", "completed", "completed"),
        ("completed", "running", "completed"),
        ("completed", "failed", "completed"),
        ("failed", "transferring", "running"),
        ("failed", "pending", "failed"),
    ],
)
def test_disk_states(stored: str, says: str, becomes: str) -> None:
    before = job(disks=[{"disk_index": 0, "status": stored}])
    assert say(before, disks=[{"disk_index": 0, "status": says}]).job.disks[0].status == becomes


@pytest.mark.parametrize(("seq", "result"), [(9, "stale"), (10, "duplicate"), (11, "applied")])
def test_only_a_greater_seq_applies(seq: int, result: str) -> None:
    decision = say(job(seq=10, bytes_transferred=1), "completed", seq=seq, bytes_transferred=5)
    assert decision.result == result
    assert (decision.job.status == "completed") == (result == "applied")


def test_a_stale_message_is_heard_and_fills_the_history() -> None:
    decision = say(job(seq=10), seq=3, bytes_transferred=5, age_seconds=60)
    assert (decision.job.last_telemetry_at, decision.job.seq) == (NOW.at, 10)
    assert decision.sample is not None
    assert (decision.sample.at, decision.sample.seq, decision.sample.bytes_transferred) == (NOW.at - 60, 3, 5)


def test_without_seq_the_last_update_wins_and_the_stored_seq_stays() -> None:
    after = say(job(seq=10, bytes_transferred=1), bytes_transferred=5).job
    assert (after.bytes_transferred, after.seq) == (5, 10)


def test_the_retry_of_an_end_is_a_duplicate_and_a_late_sample_of_an_ended_job_is_kept() -> None:
    ended = job("completed", seq=10)
    assert say(ended, "completed", seq=10).result == "duplicate"
    late = say(ended, seq=3, bytes_transferred=5)
    assert (late.result, late.job is ended, late.sample is not None) == ("final", True, True)


def test_a_verdict_of_the_watchdog_is_taken_back_by_anything_newer() -> None:
    decision = say(stalled(seq=4), seq=5, bytes_transferred=8)
    after = decision.job
    assert (after.status, after.error_message, after.completed_at, after.bytes_transferred) == (
        "running",
        None,
        None,
        8,
    )
    assert not failed_by_watchdog(after)
    assert decision.revived_after == 400


def test_a_revived_job_may_end_with_the_same_message() -> None:
    assert say(stalled(), "completed").job.status == "completed"
    assert say(stalled(), "failed", error=ERROR).job.error_message == "disk full [ENOSPC]"


def test_a_stale_message_revives_nothing() -> None:
    before = stalled(seq=4)
    decision = say(before, seq=4)
    assert (decision.result, decision.job) == ("duplicate", before)
    assert say(before, seq=3).result == "stale"


@pytest.mark.parametrize("touched", [{"error_message": "rewritten in the GUI"}, {"watchdog_failed_at": None}])
def test_a_verdict_that_somebody_touched_is_final(touched: dict[str, object]) -> None:
    assert say(stalled(**touched)).result == "final"


def test_a_mark_left_on_a_running_job_cannot_make_a_later_failure_look_like_the_watchdogs() -> None:
    before = stalled(status="running")
    after = say(before, "failed").job
    assert (after.status, after.error_message, failed_by_watchdog(after)) == ("failed", None, False)
    assert say(stalled(status="running"), "completed").job.error_message is None


def test_the_sample_of_an_end_with_zeros_shows_the_end_as_it_is_stored() -> None:
    before = job(bytes_transferred=77, progress_percent=50.0, transfer_speed_bps=9)
    decision = say(before, "completed", bytes_transferred=0, progress_percent=0, transfer_speed_bps=0, disks=[])
    assert decision.sample is not None
    assert (decision.sample.bytes_transferred, decision.sample.progress_percent) == (77, 100.0)


def test_rounding_never_shows_an_end() -> None:
    assert say(job(), progress_percent=99.9999).job.progress_percent == 99.99


def test_deciding_leaves_its_input_as_it_was() -> None:
    before = job(disks=[{"disk_index": 0}])
    copy = structs.replace(before)
    say(before, "completed", bytes_transferred=5)
    assert before == copy
