"""The table of answers: what each means for a message."""

import pytest

from sbc_daemon.answers import MAX_RETRY_AFTER_SECONDS, NOT_LET_IN, Answer, judge, needs_singles

NOW = 1_760_000_000.0

MEANINGS = [
    (204, "delivered", "lane"),
    (400, "reject", "lane"),
    (413, "reject", "lane"),
    (415, "reject", "lane"),
    (422, "reject", "lane"),
    (401, "hold", "lane"),
    (403, "hold", "lane"),
    (404, "hold", "lane"),
    (405, "hold", "lane"),
    (200, "hold", "lane"),
    (202, "hold", "lane"),
    (301, "hold", "lane"),
    (307, "hold", "lane"),
    (409, "hold", "lane"),
    (418, "hold", "lane"),
    (999, "hold", "lane"),
    (408, "retry", "lane"),
    (425, "retry", "lane"),
    (500, "retry", "lane"),
    (501, "retry", "lane"),
    (507, "retry", "lane"),
    (599, "retry", "lane"),
    (429, "retry", "link"),
    (502, "retry", "link"),
    (503, "retry", "link"),
    (504, "retry", "link"),
]


@pytest.mark.parametrize(("status", "verdict", "scope"), MEANINGS)
def test_each_status_has_one_meaning(status: int, verdict: str, scope: str) -> None:
    outcome = judge(Answer(status=status), NOW)
    assert (outcome.verdict, outcome.scope) == (verdict, scope)


WHOLE = [(status, status in (200, 202, 204, 400, 404, 405, 413, 415, 422)) for status, _, _ in MEANINGS]


@pytest.mark.parametrize(("status", "singly"), WHOLE)
def test_a_batch_refused_as_a_whole_says_nothing_of_its_messages(status: int, singly: bool) -> None:
    assert needs_singles(Answer(status=status)) is singly


def test_a_batch_that_was_answered_one_by_one_or_not_at_all_stays_one() -> None:
    assert not needs_singles(Answer(status=200, items=(Answer(status=400),)))
    assert not needs_singles(Answer(failure="timeout"))
    assert not needs_singles(Answer(failure="unreachable"))


def test_no_hub_concerns_every_job_but_a_slow_answer_only_its_own() -> None:
    gone = judge(Answer(failure="unreachable", detail="connection refused"), NOW)
    slow = judge(Answer(failure="timeout"), NOW)
    assert (gone.verdict, gone.scope, gone.reason) == ("retry", "link", "connection refused")
    assert (slow.verdict, slow.scope, slow.reason) == ("retry", "lane", "timeout")


@pytest.mark.parametrize(
    ("header", "result"),
    [("duplicate", "duplicate"), ("stale", "stale"), ("Final", "final"), ("", "applied"), ("news", "applied")],
)
def test_a_204_says_what_it_changed(header: str, result: str) -> None:
    headers = {"telemetry-result": header, "telemetry-seq": "42", "telemetry-status": "cancelled"}
    outcome = judge(Answer(status=204, headers=headers), NOW)
    assert (outcome.result, outcome.stored_seq, outcome.stored_status) == (result, 42, "cancelled")


@pytest.mark.parametrize("seq", ["", "-1", "1.5", "x", "\u0663", "9" * 20])
def test_a_seq_that_is_no_number_is_none(seq: str) -> None:
    assert judge(Answer(status=204, headers={"telemetry-seq": seq}), NOW).stored_seq is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("86400", MAX_RETRY_AFTER_SECONDS),
        ("9" * 400, MAX_RETRY_AFTER_SECONDS),
        ("Thu, 09 Oct 2025 08:53:50 GMT", 30.0),
        ("Thu, 09 Oct 2025 08:53:00 GMT", 0.0),
        ("Fri, 10 Oct 2025 08:53:20 GMT", MAX_RETRY_AFTER_SECONDS),
        ("soon", 0.0),
        ("-5", 0.0),
        ("", 0.0),
    ],
)
def test_retry_after_is_a_floor_with_a_cap(header: str, seconds: float) -> None:
    outcome = judge(Answer(status=503, headers={"retry-after": header}), NOW)
    assert outcome.not_before_seconds == seconds


def test_the_reason_carries_status_and_detail() -> None:
    assert judge(Answer(status=400, detail="`status` is missing"), NOW).reason == "400 `status` is missing"


@pytest.mark.parametrize("status", NOT_LET_IN)
def test_who_is_not_let_in_hears_what_to_look_after(status: int) -> None:
    reason = judge(Answer(status=status, detail="a token is needed"), NOW).reason
    assert reason.startswith(f"{status} a token is needed; ")
    assert "hub.token_file" in reason


def test_a_redirect_says_where_to_and_what_to_set() -> None:
    outcome = judge(Answer(status=302, headers={"location": "https://elsewhere/"}), NOW)
    assert outcome.reason == "302 redirects to https://elsewhere/; set hub.url to the hub itself"
