"""What the journal and the operator hear of the link to the hub: the edges, not the level."""

import logging

from sbc_daemon.answers import Answer, Outcome
from telemetry_common.logs import fields
from telemetry_common.text import duration, printable

log = logging.getLogger(__name__)


class LinkStory:
    def __init__(self) -> None:
        self.last_answer: str | None = None
        self.last_error: str | None = None

    def heard(self, answer: Answer, outcome: Outcome) -> None:
        """Keeps the latest answer and the latest trouble, for `sbcctl status`."""
        if answer.failure is None:
            self.last_answer = printable(outcome.reason)
        if outcome.verdict == "delivered":
            self.last_error = None
        else:
            self.last_error = printable(outcome.reason)

    def lost(self, reason: str, *, waiting_jobs: int) -> None:
        log.warning(fields("cannot reach the hub; messages wait in the outbox", reason=reason, jobs=waiting_jobs))

    def no_batches(self, reason: str) -> None:
        log.info(fields("hub takes no batches; backlogs go message by message", reason=reason))

    def back(self, seconds: float, *, waiting_jobs: int) -> None:
        log.warning(fields("hub answers again", after=duration(seconds), jobs=waiting_jobs))
