"""What readers get: one job, the list, the hub's health. Knows no HTTP library."""

import datetime
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sha_daemon import queries
from sha_daemon.database import Database, DatabaseError, Session
from sha_daemon.health import Health
from sha_daemon.history import HistoryReader
from sha_daemon.records import Disk, JobView, Sample
from sha_daemon.replies import JSON, Problem, Reply, json_reply, no_such_job, unavailable, unknown_job_type
from sha_daemon.silence import Thresholds, idle, judge
from sha_daemon.transitions import failed_by_watchdog
from telemetry_common.clock import Clock

T = TypeVar("T")


class Reader:
    def __init__(
        self,
        databases: Mapping[str, Database],
        clock: Clock,
        reading_us: Callable[[], int],
        thresholds: Thresholds,
        health: Health,
    ) -> None:
        self._databases = databases
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
        return json_reply(self._shown(job_type, view) | {"disks": [_disk(disk) for disk in view.job.disks]})

    async def jobs(self, job_type: str, query: Mapping[str, str]) -> Reply:
        """One page of the list, newest first, as `query` wants it. Raises Problem."""
        database = self._database(job_type)
        queries.only(query, "status", "vm", "limit", "cursor")
        statuses, vm, limit, cursor = (
            queries.statuses(query),
            queries.vm(query),
            queries.limit(query),
            query.get("cursor"),
        )
        try:
            page = await _ask(database, lambda session: session.jobs(statuses, limit, cursor, vm))
        except ValueError:
            raise Problem(400, "`cursor` is not one that this hub gave out; begin without one") from None
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
        samples = [_sample(sample) for sample in found.samples]
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
        job = view.job
        return {
            "job_id": job.job_id,
            "job_type": job_type,
            "vm_name": view.vm_name,
            "backup_type": view.backup_type,
            "status": job.status,
            "current_phase": job.current_phase,
            "bytes_transferred": job.bytes_transferred,
            "total_bytes": job.total_bytes,
            "transfer_speed_bps": job.transfer_speed_bps,
            "eta_seconds": job.eta_seconds,
            "progress_percent": job.progress_percent,
            "error_message": job.error_message,
            "created_at": _rfc3339(view.created_at),
            "started_at": _rfc3339(job.started_at),
            "completed_at": _rfc3339(job.completed_at),
            "last_telemetry_at": _rfc3339(job.last_telemetry_at),
            "seq": job.seq,
            "idle_seconds": job.idle_seconds,
        } | self._liveness(view)

    def _liveness(self, view: JobView) -> dict[str, Any]:
        """How the hub hears the job: by its wall clock for people, by the listening clock for the verdicts."""
        job = view.job
        heard_at, running = job.last_telemetry_at, job.status == "running"
        verdict = None
        if running and heard_at is not None and job.heard_us is not None:
            verdict = judge(job.heard_us, self._reading_us(), self._thresholds)
        silent = verdict is not None and verdict.standing != "fresh"
        return {
            "seconds_since_heard": None if heard_at is None else max(0, int(self._clock.wall() - heard_at)),
            "silence_seconds": None if verdict is None else round(verdict.silence_seconds, 1),
            "never_heard": running and heard_at is None,
            "silent": silent,
            "idle": running and not silent and idle(job.idle_seconds, self._thresholds),
            "stalled": failed_by_watchdog(job),
        }


async def _ask(database: Database, question: Callable[[Session], T]) -> T:
    try:
        return await database.run(question)
    except DatabaseError:
        raise _away() from None


def _away() -> Problem:
    return unavailable("the hub's database is not available; try again")


def _disk(disk: Disk) -> dict[str, Any]:
    return {
        "disk_index": disk.disk_index,
        "status": disk.status,
        "bytes_transferred": disk.bytes_transferred,
        "total_bytes": disk.total_bytes,
        "progress_percent": disk.progress_percent,
        "completed_at": _rfc3339(disk.completed_at),
    }


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "at": _rfc3339_milliseconds(sample.at),
        "seq": sample.seq,
        "status": sample.status,
        "current_phase": sample.current_phase,
        "bytes_transferred": sample.bytes_transferred,
        "total_bytes": sample.total_bytes,
        "transfer_speed_bps": sample.transfer_speed_bps,
        "progress_percent": sample.progress_percent,
        "producer_time": sample.producer_time,
    }


def _rfc3339(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _rfc3339_milliseconds(moment: float) -> str:
    seconds, milliseconds = divmod(round(moment * 1000), 1000)
    at = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"
