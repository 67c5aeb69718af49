"""What `shactl top` shows, line by line."""

from msgspec import structs

from sha_daemon.hub_client import HubHealth, ShownJob
from sha_daemon.top_view import View, frame

GIB = 1 << 30
JOB = ShownJob(
    job_id="backup-vm1-1",
    vm_name="vm1",
    backup_type="full",
    status="running",
    current_phase="transferring",
    bytes_transferred=GIB,
    total_bytes=4 * GIB,
    transfer_speed_bps=100 << 20,
    eta_seconds=31,
    progress_percent=25.0,
    seconds_since_heard=2.0,
)
HEALTH = HubHealth(status="ok", database="ok", jobs={"pending": 0, "running": 1})
VIEW = View(hub="127.0.0.1:8082", clock="12:00:00", health=HEALTH, running=(JOB,))


def named(job_id: str, **more: object) -> ShownJob:
    return structs.replace(JOB, job_id=job_id, **more)


def test_the_hub_the_sum_and_a_line_for_each_job() -> None:
    head, empty, heads, line = frame(VIEW, 120, 24)
    assert head == "12:00:00  hub 127.0.0.1:8082: 1 job running, 100.0 MiB/s"
    assert empty == ""
    assert heads.split() == ["JOB", "VM", "PHASE", "PROGRESS", "BYTES", "SPEED", "ETA", "HEARD"]
    assert line == (
        "backup-vm1-1  vm1  transferring  [###---------]  25.0 %  1.0 GiB of 4.0 GiB  100.0 MiB/s  31s  2s ago"
    )


def test_a_job_that_stands_still_has_no_time_of_arrival() -> None:
    line = frame(structs.replace(VIEW, running=(named("stuck", transfer_speed_bps=0),)), 120, 24)[3]
    assert line.split()[-5:] == ["0", "B/s", "-", "2s", "ago"]


def test_where_nothing_runs_it_says_so() -> None:
    assert frame(structs.replace(VIEW, running=()), 80, 24)[-1] == "no running jobs"


def test_who_needs_a_look_comes_first() -> None:
    jobs = (named("fine"), named("silent", silent=True), named("fine too"), named("stalled", stalled=True))
    lines = frame(structs.replace(VIEW, running=jobs), 120, 24)
    assert [line.split("  ")[0] for line in lines[3:]] == ["silent", "stalled", "fine", "fine too"]


def test_nothing_is_wider_or_longer_than_the_terminal_and_what_is_left_out_is_counted() -> None:
    jobs = tuple(named(f"job-{number}") for number in range(30))
    lines = frame(structs.replace(VIEW, running=jobs, ended=(named("over", status="completed"),)), 40, 12)
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 40
    assert sum(line.startswith("job-") for line in lines) == 5
    assert "... and 25 more" in lines


def test_jobs_beyond_those_asked_for_are_owned_up_to() -> None:
    health = structs.replace(HEALTH, jobs={"running": 10_000})
    assert "10000 jobs running, the newest 1 here" in frame(structs.replace(VIEW, health=health), 120, 24)[0]


def test_a_hub_that_does_not_answer_is_told_with_the_age_of_what_is_seen() -> None:
    lines = frame(structs.replace(VIEW, problem="cannot reach the hub", age_seconds=7.0), 120, 24)
    assert lines[1] == "! cannot reach the hub; what is below is 7s old"
    assert lines[-1].startswith("backup-vm1-1")


def test_a_hub_without_its_database_is_told() -> None:
    health = structs.replace(HEALTH, status="degraded", database="unreachable since 11:58")
    assert frame(structs.replace(VIEW, health=health), 120, 24)[1] == (
        "! the hub is degraded: database unreachable since 11:58"
    )


def test_those_that_ended_meanwhile_stand_below_with_their_error() -> None:
    failed = named("lost", status="failed", error_message="Job stalled\x1b[2J")
    assert frame(structs.replace(VIEW, ended=(failed,)), 120, 24)[-2:] == [
        "ENDED  VM   STATUS  BYTES    ERROR",
        "lost   vm1  failed  1.0 GiB  Job stalled\\x1b[2J",
    ]
