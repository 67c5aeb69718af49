"""The SQL that takes fingerprints, as text, each with a line on why it is shaped so. No I/O.

The rule is that of `fingerprint`; what is NULL counts as the hub reads it.
"""

from sha_daemon.job_types import JobType
from sha_daemon.statements import seconds

MAX_BYTES = 16 << 20
"""Of one answer: what the server's own smallest common max_allowed_packet lets through."""


def _figures(*columns: str) -> str:
    return f"CRC32(CONCAT_WS(',', {', '.join(columns)}))"


def _number(column: str, otherwise: int) -> str:
    return f"COALESCE({column}, {otherwise})"


def _percent(column: str) -> str:
    return f"CAST(ROUND({_number(column, 0)} * 100) AS SIGNED)"


_JOB_FIGURE = _figures(
    "CRC32(j.status)",
    _number("j.telemetry_seq", -1),
    _number("j.telemetry_heard_us", -1),
    _number("j.bytes_transferred", 0),
    _number("j.total_bytes", 0),
    _number("j.transfer_speed_bps", 0),
    _number("j.eta_seconds", 0),
    _number("j.telemetry_idle_seconds", -1),
    _percent("j.progress_percent"),
    _number(seconds("j.started_at"), -1),
    _number(seconds("j.completed_at"), -1),
    "CRC32(COALESCE(j.current_phase, 'pending'))",
    _number("CRC32(j.error_message)", -1),
)
_DISK_FIGURE = _figures(
    "d.disk_index",
    "CRC32(COALESCE(d.status, 'pending'))",
    _number("d.bytes_transferred", 0),
    _number("d.total_bytes", 0),
    _percent("d.progress_percent"),
    _number(seconds("d.completed_at"), -1),
)


class FingerprintStatements:
    """The statements on the tables of one kind of job."""

    def __init__(self, kind: JobType) -> None:
        self._jobs = kind.jobs_table
        self._disks = kind.disks_table
        self._of_job = kind.disk_job_column

    def live(self, collation: str) -> str:
        """Reads the index on (status, telemetry_heard_us): its cost does not know how many jobs have finished."""
        return self._taken(collation, "FORCE INDEX (idx_telemetry_silence) WHERE j.status = %s LIMIT %s")

    def young(self, collation: str) -> str:
        """By the index on created_at: jobs that were made and ended between two looks."""
        return self._taken(collation, "WHERE j.created_at >= NOW() - INTERVAL %s SECOND LIMIT %s")

    def _taken(self, collation: str, where: str) -> str:
        """`fingerprint.fingerprint` of many jobs, as one JSON text: ten thousand rows would cost the client the most.

        The figures of the disks, which cost twice those of the jobs, are of one share of the jobs (by a number that
        spreads them evenly) at a time. Each of the two tables may have its own collation.
        """
        return f"""SET STATEMENT group_concat_max_len = {MAX_BYTES} FOR
 SELECT CONCAT('[', GROUP_CONCAT('[', JSON_QUOTE(id), ',', figure, ',', COALESCE(disks, 'null'), ']'), ']')
 FROM (SELECT j.id, {_JOB_FIGURE} AS figure, IF(CRC32(j.id) MOD %s = %s,
 (SELECT COALESCE(BIT_XOR({_DISK_FIGURE}), 0) FROM {self._disks} d WHERE d.{self._of_job} = j.id COLLATE {collation}),
 NULL) AS disks FROM {self._jobs} j {where}) found"""
