"""The demo's own honesty: what was not checked is not true, and what is shown fits the screen."""

import io
import re

import pytest

from demo.checks import CLAIMS, Checks
from demo.hub_view import DiskNow, JobNow, Row
from demo.screen import Screen

JOB = JobNow(
    job_id="backup-web1-1",
    status="running",
    current_phase="transferring",
    bytes_transferred=600 << 20,
    total_bytes=1324 << 20,
    transfer_speed_bps=45 << 20,
    eta_seconds=17,
    progress_percent=45.3,
    seconds_since_heard=2,
    disks=tuple(DiskNow(index, "running", 300 << 20, 662 << 20, 45.3) for index in range(2)),
)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, *jobs: JobNow | None) -> str:
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    with Screen().live() as live:
        for job in jobs:
            live.show(job, "two nbdcopy at work")
    return stream.getvalue()


def test_all_is_true_only_when_every_claim_was_checked() -> None:
    checks = Checks()
    for claim in list(CLAIMS)[:-1]:
        checks.check(claim, True, "measured")
    assert not checks.all_true()
    checks.check(list(CLAIMS)[-1], True, "measured")
    assert checks.all_true()


def test_one_untrue_claim_is_enough() -> None:
    checks = Checks()
    for claim in CLAIMS:
        checks.check(claim, claim != "seen live", "measured")
    assert not checks.all_true()


def test_on_a_terminal_the_view_is_redrawn_in_place_within_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, Terminal(), JOB, None, JOB)
    assert text.count("\x1b[6F") == 2
    for line in re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", text).splitlines():
        assert len(line) <= 80, line


def test_elsewhere_it_is_a_plain_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, io.StringIO(), JOB, JOB, JOB)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert len([line for line in lines if "45 %" in line]) == 1
    assert all(len(line) <= 80 for line in lines)


def test_what_the_hub_says_cannot_move_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    wicked = JobNow("j", "run\x1b[2J", 0, 0, 0.0, (), current_phase="\x1b[1A")
    text = shown(monkeypatch, io.StringIO(), wicked)
    assert "\x1b" not in text


def test_tables_fit_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    screen, checks = Screen(), Checks()
    for claim in CLAIMS:
        checks.check(claim, True, "7 looks, up to 5 s old")
    screen.heading("Scene 1: a virtual machine with two disks is backed up", "27 s")
    screen.table(checks.results())
    screen.rows("backup-web1-1", Row(None, "completed", 100.0, 1388314624), [Row(0, "completed", 100.0, 1073741824)])
    assert all(len(line) <= 80 for line in stream.getvalue().splitlines())
