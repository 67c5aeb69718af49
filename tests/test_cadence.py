"""The cadence, case by case. The job in the table was last sent at second 100, running, transferring, at 20 %."""

from dataclasses import dataclass
from typing import Any

import pytest

from sbc_daemon.cadence import due_at, reason_to_send
from sbc_daemon.config import CadenceSettings
from sbc_daemon.job_memory import JobFacts, JobMemory, Sent
from telemetry_common.contract import DiskReport, ErrorInfo, Update

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
    "nothing new within the interval": Case(None, 4.9, {}),
    "news when the interval is over": Case("interval", 5.0, {}),
    "no news when the interval is over": Case(None, 5.0, {}, news=False),
    "no news for an hour, unattached": Case(None, 3600.0, {}, news=False),
    "no news, but the attached producer lives": Case("heartbeat", 5.0, {}, news=False, attached=True),
    "no heartbeat before the interval": Case(None, 4.9, {}, news=False, attached=True),
    "9.99 points more than last sent": Case(None, 0.1, {"progress_percent": 29.99}),
    "10 points more than last sent": Case("milestone", 0.1, {"progress_percent": 30.0}),
    "fewer points than last sent": Case(None, 0.1, {"progress_percent": 5.0}),
    "another phase": Case("phase", 0.0, {"current_phase": "finalizing"}),
    "another status": Case("status", 0.0, {"status": "pending"}),
    "a disk's status": Case("disk status", 0.0, {"disks": (disk("completed"),)}),
    "a disk that was not there": Case("disk status", 0.0, {"disks": (disk("running"), disk("pending", 1))}),
    "an error": Case("error", 0.0, {"error": ErrorInfo("torn")}),
    "completed": Case("end", 0.0, {"status": "completed"}),
    "failed": Case("end", 0.0, {"status": "failed", "error": ErrorInfo("torn")}),
    "cancelled": Case("end", 0.0, {"status": "cancelled"}),
    "an end goes before a milestone": Case("end", 9.0, {"status": "completed", "progress_percent": 100.0}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_message_is_sent_when_the_spec_says_so(case: Case) -> None:
    memory = remembered(news=case.news, attached=case.attached)
    assert reason_to_send(memory, snapshot(**case.says), 100.0 + case.after, RULES) == case.reason


def test_the_first_line_of_a_job_is_sent_at_once() -> None:
    memory = JobMemory(JobFacts("j1"), 100.0)
    assert reason_to_send(memory, snapshot(), 100.0, RULES) == "first line"


def test_a_first_line_that_is_the_end_is_an_end() -> None:
    memory = JobMemory(JobFacts("j1"), 100.0)
    assert reason_to_send(memory, snapshot(status="failed"), 100.0, RULES) == "end"


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
