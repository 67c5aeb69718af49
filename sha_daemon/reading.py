"""What readers get: one job, the list, the hub's health. Knows no HTTP library."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sha_daemon import job_json, queries
from sha_daemon.database import Database, DatabaseError, Session
from sha_daemon.health import Health
from sha_daemon.history import HistoryReader
from sha_daemon.job_json import Instant
from sha_daemon.records import JobView
from sha_daemon.replies import JSON, Problem, Reply, json_reply, no_such_job, unavailable, unknown_job_type
from sha_daemon.silence import Thresholds
from telemetry_common.clock import Clock

T = TypeVar("T")


class Reader:
    def __init__(
        self,
        databases: Mapping[str, Database],
        searches: Mapping[str, Database],
        clock: Clock,
        reading_us: Callable[[], int],
        thresholds: Thresholds,
        health: Health,
    ) -> None:
        """`searches` are other ways to the same `databases`, for what may take seconds."""
        self._databases = databases
        self._searches = searches
        self._clock = clock
        self._reading_us = reading_us
        self._thresholds = thresholds
        self._health = health
        self._histories = HistoryReader()

    async def job(self, job_type: str, job_id: str) -> Reply:
        """One job with its disks. Raises Problem."""
        database = self._database(job_type)
        view = await _ask(database, lambda session: session.job(job_id))
        if view is None:
            raise no_such_job(job_type, job_id)
        return json_reply(self._shown(job_type, view) | job_json.disks(view.job))

    async def jobs(self, job_type: str, query: Mapping[str, str]) -> Reply:
        """One page of the list, newest first, as `query` wants it. Raises Problem."""
        database = self._database(job_type)
        queries.only(query, "status", "vm", "limit", "cursor")
        statuses, vm, limit, cursor = (
            queries.statuses(query),
            queries.vm(query),
            queries.limit(query),
            queries.cursor(query),
        )
        page = await _ask(
            self._searches[job_type] if vm else database, lambda session: session.jobs(statuses, limit, cursor, vm)
        )
        return json_reply({"jobs": [self._shown(job_type, view) for view in page.jobs], "next_cursor": page.cursor})

    async def history(self, job_type: str, job_id: str, query: Mapping[str, str]) -> Reply:
        """The job's samples for a chart, in order of their event times, thinned as `query` wants it. Raises Problem."""
        database = self._database(job_type)
        queries.only(query, "points")
        points = queries.points(query)
        try:
            found = await self._histories.read(database, job_id, points)
        except DatabaseError:
            raise _away() from None
        if found is None:
            raise no_such_job(job_type, job_id)
        samples = [job_json.sample(sample) for sample in found.samples]
        return json_reply({"job_id": job_id, "job_type": job_type, "stored": found.stored, "samples": samples})

    def health(self) -> Reply:
        """200 while updates are taken, else 503; either way with what is wrong."""
        reply = json_reply(self._health.report())
        return reply if self._health.takes_updates else Reply(503, reply.headers, reply.body, JSON)

    def _database(self, job_type: str) -> Database:
        try:
            return self._databases[job_type]
        except KeyError:
            raise unknown_job_type(job_type, self._databases) from None

    def _shown(self, job_type: str, view: JobView) -> dict[str, Any]:
        at = Instant(self._clock.wall(), self._reading_us())
        return job_json.facts(job_type, view) | job_json.liveness(job_json.hearing(view.job), at, self._thresholds)


async def _ask(database: Database, question: Callable[[Session], T]) -> T:
    try:
        return await database.run(question)
    except DatabaseError:
        raise _away() from None


def _away() -> Problem:
    return unavailable("the hub's database is not available; try again", "database_away")
