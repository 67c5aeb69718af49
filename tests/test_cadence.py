"""The cadence, case by case. The job in the table was last sent at second 100, running, transferring, at 20 %."""

from dataclasses import dataclass
from typing import Any

import pytest
from msgspec import UNSET

from sbc_daemon.cadence import due_at, reason_to_send
from sbc_daemon.config import CadenceSettings
from sbc_daemon.job_memory import JobFacts, JobMemory, Sent
from sbc_daemon.snapshot import sent_mark
from sbc_daemon.snapshot import snapshot as said
from sbc_daemon.tracker import merge
from telemetry_common.contract import DiskReport, ErrorInfo, Line, Update

RULES = CadenceSettings()


@dataclass
class Case:
    """`after`: seconds since the last message. `says`: what the snapshot holds beside status and phase."""

    reason: str | None
    after: float
    says: dict[str, Any]
    news: bool = True
    attached: bool = False


def remembered(*, news: bool = True, attached: bool = False, status: Any = "running") -> JobMemory:
    sent = Sent(status, "transferring", {0: "running"}, 20.0, error=False)
    memory = JobMemory(JobFacts("j1", status=status, sent=sent, news=news), 100.0)
    memory.producers = int(attached)
    return memory


def snapshot(**says: Any) -> Update:
    usual = {"status": "running", "current_phase": "transferring", "disks": (disk("running"),)}
    return Update(**{**usual, **says})


def disk(status: Any, index: int = 0) -> DiskReport:
    return DiskReport(disk_index=index, status=status)


CASES = {
    # 1. interval: 5 s since the last send, and there is something to say ...
    "news, 4.9 s after the last message": Case(None, 4.9, {}),
    "news, 5 s after the last message": Case("interval", 5.0, {}),
    "news that waited for a minute": Case("interval", 60.0, {}),
    "no news, 5 s after the last message": Case(None, 5.0, {}, news=False),
    "no news for an hour": Case(None, 3600.0, {}, news=False),
    # ... (new data, or the attached producer is alive: a heartbeat)
    "no news, but the attached producer lives": Case("heartbeat", 5.0, {}, news=False, attached=True),
    "no news for an hour, but the attached producer lives": Case("heartbeat", 3600.0, {}, news=False, attached=True),
    "no heartbeat before the interval is over": Case(None, 4.9, {}, news=False, attached=True),
    "news of an attached producer are news": Case("interval", 5.0, {}, attached=True),
    # 2. milestone: progress is 10 points or more above the last sent progress
    "9.99 points more than last sent": Case(None, 0.0, {"progress_percent": 29.99}),
    "10 points more than last sent": Case("milestone", 0.0, {"progress_percent": 30.0}),
    "70 points more than last sent": Case("milestone", 0.0, {"progress_percent": 90.0}),
    "fewer points than last sent": Case(None, 0.0, {"progress_percent": 5.0}),
    "a milestone needs no other news": Case("milestone", 0.0, {"progress_percent": 30.0}, news=False),
    "a milestone of a job whose interval is over": Case("milestone", 5.0, {"progress_percent": 30.0}),
    # 3. state change, always and at once: current_phase differs, status differs, a disk's status differs, an error
    "another phase": Case("phase", 0.0, {"current_phase": "finalizing"}),
    "the phase of before": Case(None, 0.0, {"current_phase": "transferring"}),
    "no phase": Case(None, 0.0, {"current_phase": UNSET}),
    "another status": Case("status", 0.0, {"status": "pending"}),
    "a disk's status": Case("disk status", 0.0, {"disks": (disk("completed"),)}),
    "a disk that was not there": Case("disk status", 0.0, {"disks": (disk("running"), disk("pending", 1))}),
    "a disk without a status": Case(None, 0.0, {"disks": (disk("running"), disk(UNSET, 1))}),
    "a disk's bytes": Case(None, 0.0, {"disks": (DiskReport(disk_index=0, status="running", bytes_transferred=9),)}),
    "an error": Case("error", 0.0, {"error": ErrorInfo("torn")}),
    "a state change of a job whose interval is over": Case("phase", 5.0, {"current_phase": "finalizing"}),
    "a state change and a milestone": Case("phase", 0.0, {"current_phase": "finalizing", "progress_percent": 99.0}),
    # 4. end, always and at once: completed, failed, cancelled
    "completed": Case("end", 0.0, {"status": "completed"}),
    "failed": Case("end", 0.0, {"status": "failed", "error": ErrorInfo("torn")}),
    "failed without a word": Case("end", 0.0, {"status": "failed"}),
    "cancelled": Case("end", 0.0, {"status": "cancelled"}),
    "an end goes before all others": Case(
        "end", 9.0, {"status": "completed", "current_phase": "done", "progress_percent": 100.0}
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_message_is_sent_when_the_spec_says_so(case: Case) -> None:
    memory = remembered(news=case.news, attached=case.attached)
    assert reason_to_send(memory, snapshot(**case.says), 100.0 + case.after, RULES) == case.reason


def test_the_default_numbers_are_those_of_the_contract() -> None:
    assert (RULES.interval_seconds, RULES.milestone_points) == (5.0, 10.0)


def test_the_first_line_of_a_job_is_sent_at_once() -> None:
    memory = JobMemory(JobFacts("j1"), 100.0)
    assert reason_to_send(memory, snapshot(), 100.0, RULES) == "first line"


def test_a_first_line_that_is_the_end_is_an_end() -> None:
    memory = JobMemory(JobFacts("j1"), 100.0)
    assert reason_to_send(memory, snapshot(status="failed"), 100.0, RULES) == "end"


def test_a_milestone_is_counted_from_what_was_last_sent_and_not_from_the_round_tens() -> None:
    memory = job_at(7)
    shown: list[float] = []
    for done in range(8, 101):
        merge(memory, Line(bytes_transferred=done), 0.0)
        shown += sent(memory)
    assert shown == [17, 27, 37, 47, 57, 67, 77, 87, 97]


def test_a_milestone_is_counted_from_the_last_sent_progress_also_where_that_fell_with_a_growing_total() -> None:
    memory = job_at(90)
    merge(memory, Line(total_bytes=1000), 0.0)
    assert sent(memory, 5.0) == [9]
    merge(memory, Line(bytes_transferred=189), 5.0)
    assert sent(memory, 5.0) == []
    merge(memory, Line(bytes_transferred=190), 5.0)
    assert sent(memory, 5.0) == [19]


def job_at(percent: int) -> JobMemory:
    memory = JobMemory(JobFacts("j1"), 0.0)
    merge(memory, Line(bytes_transferred=percent, total_bytes=100), 0.0)
    assert sent(memory) == [percent]
    return memory


def sent(memory: JobMemory, now: float = 0.0) -> list[float]:
    """The percentage of the message that is sent at `now`, if one is."""
    update = said(memory, now)
    if reason_to_send(memory, update, now, RULES) is None:
        return []
    memory.state.sent, memory.state.news, memory.sent_at = sent_mark(memory.state, update), False, now
    return [] if update.progress_percent is UNSET else [update.progress_percent]


@pytest.mark.parametrize("attached", [True, False])
def test_after_the_end_there_is_nothing_to_say(attached: bool) -> None:
    memory = remembered(status="completed", attached=attached)
    assert reason_to_send(memory, snapshot(status="completed"), 1000.0, RULES) is None
    assert due_at(memory, RULES) is None


@pytest.mark.parametrize(
    ("news", "attached", "expected"),
    [(True, False, 105.0), (False, True, 105.0), (True, True, 105.0), (False, False, None)],
)
def test_a_value_that_waits_is_due_when_its_seconds_are_over(
    news: bool, attached: bool, expected: float | None
) -> None:
    assert due_at(remembered(news=news, attached=attached), RULES) == expected


@pytest.mark.parametrize("sent_at", [0.1, 3.3, 1e6 + 0.7, 12345.678901])
def test_a_timer_that_rings_when_due_finds_the_time_come(sent_at: float) -> None:
    memory = remembered()
    memory.sent_at = sent_at
    due = due_at(memory, RULES)
    assert due is not None
    assert reason_to_send(memory, snapshot(), due, RULES) == "interval"


def test_the_numbers_are_settings() -> None:
    rules = CadenceSettings(interval_seconds=1.0, milestone_points=1.0)
    memory = remembered()
    assert reason_to_send(memory, snapshot(), 101.0, rules) == "interval"
    assert reason_to_send(memory, snapshot(progress_percent=21.0), 100.0, rules) == "milestone"
