"""Which answer of the hub means what. No I/O: one table from (status, failure) to an outcome.

204                                  delivered  (Telemetry-Result: duplicate, stale or final says what it changed)
unreachable, connection lost         retry      link: concerns every job
no answer in time                    retry      lane: concerns this job
429, 502, 503, 504                   retry      link
408, 425, every other 5xx            retry      lane
400, 413, 415, 422                   reject     lane: this message will never be taken
401, 403, 404, 405, redirects, rest  hold       lane: keep everything, try slowly

The same for each message of a batch that is answered one by one. Where a batch is answered as a whole, it is the answer
to each of its messages, but for those that say nothing of any of them (`needs_singles`).
"""

import email.utils
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

MAX_RETRY_AFTER_SECONDS = 300.0
"""A hub that asks for more patience than this is asked again all the same."""

Verdict = Literal["delivered", "retry", "hold", "reject"]
Scope = Literal["link", "lane"]
Result = Literal["applied", "duplicate", "stale", "final"]
Failure = Literal["unreachable", "timeout"]

_REJECT = frozenset({400, 413, 415, 422})
_NO_BATCHES = _REJECT | {404, 405}
_NOT_SERVING = frozenset({502, 503, 504})
_RETRY_LANE = frozenset({408, 425})
_RETRY_LINK = frozenset({429, 502, 503, 504})
NOT_LET_IN = (401, 403)
"""The client's token is missing, unknown or has not the right: no job's own trouble."""
_CURES: Mapping[int, str] = {
    401: "look after hub.token_file on this client, then reload sbc-daemon (where the key is new: restart it)",
    403: "hub.token_file on this client needs one that may report; then reload sbc-daemon",
}
"""What to do where the hub does not let this client in; behind the hub's own words."""
_RESULTS: Mapping[str, Result] = {"duplicate": "duplicate", "stale": "stale", "final": "final"}


class Answer(Struct, frozen=True, kw_only=True):
    """What came back: an HTTP status with its headers (names in lower case), or the failure to get one.

    `items` are a batch's answers, one a message in order; None where it was answered as a whole. `detail` is the hub's
    reason (problem+json's `detail`) or the failure in words; from outside, so not to be trusted.
    """

    status: int = 0
    failure: Failure | None = None
    headers: Mapping[str, str] = {}
    detail: str = ""
    items: "tuple[Answer, ...] | None" = None


class Outcome(Struct, frozen=True, kw_only=True):
    """`reason` is for the journal and the dead letters. `stored_seq` and `stored_status` are the hub's, where it said.

    `not_before_seconds` is the least delay that the hub asked for.
    """

    verdict: Verdict
    reason: str
    scope: Scope = "lane"
    result: Result = "applied"
    stored_seq: int | None = None
    stored_status: str | None = None
    not_before_seconds: float = 0.0


def judge(answer: Answer, now_wall: float) -> Outcome:
    """`now_wall` (Unix seconds) is what a Retry-After given as a date is compared with."""
    if answer.failure is not None:
        scope: Scope = "link" if answer.failure == "unreachable" else "lane"
        return Outcome(verdict="retry", scope=scope, reason=answer.detail or answer.failure)
    if answer.status == 204:
        return _delivered(answer.headers)
    verdict, scope = _classify(answer.status)
    wait = _retry_after(answer.headers.get("retry-after", ""), now_wall) if verdict == "retry" else 0.0
    return Outcome(verdict=verdict, scope=scope, reason=_reason(answer), not_before_seconds=wait)


def serves(answer: Answer) -> bool:
    """Whether there is a hub that does its work, whatever it thinks of the message: no other needs to be asked."""
    return answer.failure is None and answer.status not in _NOT_SERVING


def needs_singles(answer: Answer) -> bool:
    """Whether this answer to a batch as a whole means that its messages must go singly.

    An older hub knows no batches (404, 405), something on the way may bound them (413), and what is said against a
    body of many messages (400, 415, 422) must not make dead letters of them all. So with a success without answers.
    """
    if answer.failure is not None or answer.items is not None:
        return False
    return answer.status in _NO_BATCHES or 200 <= answer.status <= 299


def _classify(status: int) -> tuple[Verdict, Scope]:
    if status in _RETRY_LINK:
        return "retry", "link"
    if status in _RETRY_LANE or 500 <= status <= 599:
        return "retry", "lane"
    if status in _REJECT:
        return "reject", "lane"
    return "hold", "lane"


def _delivered(headers: Mapping[str, str]) -> Outcome:
    seq = headers.get("telemetry-seq", "")
    return Outcome(
        verdict="delivered",
        reason="204",
        result=_RESULTS.get(headers.get("telemetry-result", "").lower(), "applied"),
        stored_seq=int(seq) if seq.isascii() and seq.isdigit() and len(seq) <= 19 else None,
        stored_status=headers.get("telemetry-status", "")[:20] or None,
    )


def _reason(answer: Answer) -> str:
    where = answer.headers.get("location")
    hint = f"redirects to {where[:200]}; set hub.url to the hub itself" if where else answer.detail
    return "; ".join(filter(None, (f"{answer.status} {hint}".strip(), _CURES.get(answer.status))))


def _retry_after(value: str, now_wall: float) -> float:
    """Seconds or an HTTP date (RFC 9110); what cannot be read asks for nothing."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), MAX_RETRY_AFTER_SECONDS)
    try:
        asked = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(0.0, asked - now_wall), MAX_RETRY_AFTER_SECONDS)
