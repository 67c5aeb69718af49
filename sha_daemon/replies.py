"""What the hub answers, apart from the HTTP library that carries it. Errors are problem details (RFC 9457)."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus

import msgspec
from msgspec import Struct

from telemetry_common.text import printable

PROBLEM = "application/problem+json"
JSON = "application/json"
RETRY_AFTER_SECONDS = 5
"""What a sender is asked to wait after a 503: as long as the hub waits between two looks at its database."""

STOPPING = "stopping"
"""Why an update is refused while the hub stops: the answer is the last one on its connection."""
_REASONS = {
    400: "malformed",
    401: "unauthorized",
    403: "forbidden",
    404: "no_such_resource",
    405: "method",
    408: "slow_body",
    413: "too_large",
    414: "too_large",
    415: "media_type",
    417: "malformed",
    421: "misdirected",
    431: "too_large",
    500: "failed",
    503: "unavailable",
}


class Reply(Struct, frozen=True):
    """`body` is sent as `content_type`; a reply without a body has neither. The `last` one closes its connection."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""
    content_type: str = JSON
    last: bool = False


class Problem(Exception):
    """An error as the sender sees it: never SQL, a traceback, or anything of another job.

    `reason` is one of a few words, for those who count; where none is given, the status has one.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, reason: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.reason = reason or _REASONS.get(status, f"status_{status}")

    def reply(self) -> Reply:
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return Reply(self.status, self.headers, msgspec.json.encode(body), PROBLEM, last=self.reason == STOPPING)


def no_such_job(job_type: str, job_id: str) -> Problem:
    return Problem(404, f"no {job_type} job '{printable(job_id)}'", reason="unknown_job")


def unknown_job_type(job_type: str, known: Iterable[str]) -> Problem:
    detail = f"unknown job type '{printable(job_type)}'; this hub knows: {', '.join(sorted(known))}"
    return Problem(404, detail, reason="unknown_job_type")


def unavailable(detail: str, reason: str = "") -> Problem:
    return Problem(503, detail, {"Retry-After": str(RETRY_AFTER_SECONDS)}, reason)


def json_reply(content: object) -> Reply:
    return Reply(200, {"Cache-Control": "no-store"}, msgspec.json.encode(content))
