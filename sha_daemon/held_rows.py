"""Jobs whose rows another program holds: asked about before the writer touches them, so that it waits for each once.

A transaction that another program leaves open costs the writer one wait for its lock. From then on the job's updates
are refused at once, while everybody else's go on, until a question that waits for nobody finds the rows free.
"""

import asyncio
import logging
from collections.abc import Iterable

from sha_daemon.database import Database, DatabaseError
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

SECOND_LOOK_SECONDS = 0.05
"""After which a row that was found held must still be."""
MAX_REMEMBERED = 1000
"""Jobs remembered as held; beyond it the oldest is forgotten, and costs a wait again."""


class HeldRows:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: dict[str, None] = {}

    async def known(self, job_ids: Iterable[str]) -> set[str]:
        """Those of the jobs that were held and still are."""
        suspects = {job_id for job_id in job_ids if job_id in self._held} if self._held else set()
        return await self.among(suspects) if suspects else set()

    async def among(self, job_ids: Iterable[str]) -> set[str]:
        """Those of the jobs that are held now. None where the database does not say."""
        asked = set(job_ids)
        try:
            held = await self._database.run(lambda session: session.held_jobs(asked))
            if held - self._held.keys():
                # Another hub holds a row for the length of its transaction: that is no reason to refuse anything.
                await asyncio.sleep(SECOND_LOOK_SECONDS)
                held = await self._database.run(lambda session: session.held_jobs(held))
        except DatabaseError:
            return set()
        for job_id in sorted(asked - held):
            self._let_go(job_id)
        for job_id in sorted(held - self._held.keys()):
            self._remember(job_id)
        return held

    def _remember(self, job_id: str) -> None:
        log.warning(fields("another program holds the row; the job's updates are refused", job=job_id))
        if len(self._held) >= MAX_REMEMBERED:
            del self._held[next(iter(self._held))]
        self._held[job_id] = None

    def _let_go(self, job_id: str) -> None:
        if job_id in self._held:
            del self._held[job_id]
            log.info(fields("the job's row is free again", job=job_id))
