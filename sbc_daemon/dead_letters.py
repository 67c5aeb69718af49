"""What the operator does with dead letters: look, send again, delete; said in the journal with who did it."""

import logging
from collections.abc import Callable, Mapping, Sequence

from sbc_daemon.outbox import DeadLetter, Outbox
from telemetry_common.logs import fields

log = logging.getLogger(__name__)


class DeadLetters:
    """`wake(job_id)` tells the forwarder that the job has something to send. Raises OutboxFull as the outbox does."""

    def __init__(self, outbox: Outbox, wake: Callable[[str], None]) -> None:
        self._outbox = outbox
        self._wake = wake

    async def all(self) -> Sequence[DeadLetter]:
        return await self._outbox.dead_letters()

    async def retry(self, letter_ids: Sequence[int] | None, uid: int) -> Mapping[int, str]:
        """Have these (None: all) sent again; those that are, and their jobs. `uid` is who asks for it."""
        jobs = await self._outbox.retry_letters(letter_ids)
        for job_id in set(jobs.values()):
            self._wake(job_id)
        if jobs:
            log.info(fields("dead letters are sent again", count=len(jobs), first=min(jobs), last=max(jobs), uid=uid))
        return jobs

    async def delete(self, letter_ids: Sequence[int] | None, uid: int) -> Sequence[int]:
        """Forget these (None: all) for good; those that there were."""
        gone = await self._outbox.delete_letters(letter_ids)
        if gone:
            log.info(fields("dead letters were deleted", count=len(gone), first=gone[0], last=gone[-1], uid=uid))
        return gone
