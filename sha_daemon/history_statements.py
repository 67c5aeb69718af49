"""The SQL that reads and prunes `telemetry_history`, as text, each with a line on why it is shaped so. No I/O.

Event times cross as whole Unix milliseconds on the way out and as UTC text on the way in.
"""

from sha_daemon.job_types import JobType

_MILLISECONDS = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', at) DIV 1000"
_MARK = f"{_MILLISECONDS}, id"
_SAMPLE = f"""id, job_id, seq, {_MILLISECONDS}, status, current_phase, bytes_transferred, total_bytes,
 transfer_speed_bps, progress_percent, producer_time"""
# In the order of the index, whose last column is the primary key, also where many samples have the same time.
_AFTER = "(at > %s OR (at = %s AND id > %s))"
_FROM = "(at > %s OR (at = %s AND id >= %s))"
_TO = "(at < %s OR (at = %s AND id <= %s))"
# Speed and id in one decimal number, at most 19 digits each: one pass finds the row of the extreme, not only its value.
_IDS = "100000000000000000000"

# The rows as they were received: the primary key tells, and no index on the time of the event has to be kept.
PRUNE_LOOK = """SELECT MAX(id), MIN(IF(at BETWEEN %s AND %s, id, NULL)) FROM
 (SELECT id, at FROM telemetry_history FORCE INDEX (PRIMARY) WHERE id > %s ORDER BY id LIMIT %s) h"""

# A range of the primary key: it locks what it looks at, far from where samples are added.
PRUNE = "DELETE FROM telemetry_history WHERE id > %s AND id <= %s AND at < %s"


class HistoryStatements:
    """The statements on the samples of one kind of job."""

    def __init__(self, kind: JobType) -> None:
        self._of_job = f"""FROM telemetry_history FORCE INDEX (idx_job_chart)
 WHERE job_type = '{kind.name}' AND job_id = %s"""

    def count_after(self) -> str:
        """From the index alone: no row is read."""
        return f"SELECT COUNT(*) {self._of_job} AND {_AFTER}"

    def first(self) -> str:
        """For a history that is short enough to be sorted as a whole."""
        return f"SELECT {_SAMPLE} {self._of_job} ORDER BY at, seq, id LIMIT %s"

    def first_mark(self) -> str:
        return f"SELECT {_MARK} {self._of_job} ORDER BY at, id LIMIT 1"

    def mark_after(self) -> str:
        """The so-many-th after a mark, from the index alone."""
        return f"SELECT {_MARK} {self._of_job} AND {_AFTER} ORDER BY at, id LIMIT 1 OFFSET %s"

    def last_mark(self) -> str:
        return f"SELECT {_MARK} {self._of_job} ORDER BY at DESC, id DESC LIMIT 1"

    def stretch(self) -> str:
        """One pass without a temporary table. BINARY: as exactly as the rules compare. Ids come as integers, exact."""
        return f"""SELECT CAST(MIN(transfer_speed_bps * {_IDS} + id) MOD {_IDS} AS UNSIGNED),
 CAST({_IDS} - MAX(transfer_speed_bps * {_IDS} + {_IDS} - id) MOD {_IDS} AS UNSIGNED),
 MIN(status) <> MAX(status) OR MIN(BINARY current_phase) <> MAX(BINARY current_phase)
 {self._of_job} AND {_FROM} AND {_TO}"""

    def changes(self) -> str:
        """The first row has none before it, and LAG is NULL: it is no change."""
        return f"""SELECT id FROM (SELECT id, at, status, BINARY current_phase AS phase,
 LAG(status) OVER w AS status_before, LAG(BINARY current_phase) OVER w AS phase_before
 {self._of_job} AND {_FROM} AND {_TO} WINDOW w AS (ORDER BY at, id)) h
 WHERE status <> status_before OR phase <> phase_before ORDER BY at, id LIMIT %s"""

    def chosen(self, count: int) -> str:
        """By primary key; the job's id is checked all the same."""
        marks = ", ".join(["%s"] * count)
        return f"""SELECT {_SAMPLE} FROM telemetry_history FORCE INDEX (PRIMARY)
 WHERE id IN ({marks}) AND job_id = %s ORDER BY at, seq, id"""
