"""The SQL statements of the hub's daemon, as text, each with a line on why it is shaped so. No I/O.

Those that read and prune the history have a file of their own, `history_statements`.

`Statements` are those on the tables of one kind of job; what stands alone concerns no kind of job. Times cross as whole
Unix seconds on the way out (TIMESTAMPDIFF knows no year 2038 and turns a zero date into NULL) and as UTC text on the
way in: the session's time zone is +00:00. Rows to be written cross as one JSON parameter.
"""

from collections.abc import Sequence

from sha_daemon.database import LISTED_ERROR_CHARACTERS
from sha_daemon.job_types import JobType

LOCK_WAIT_SECONDS = 1
"""For a row that another program holds; whole seconds, the server knows no less."""
UNSEEN_AT_ONCE = 2000
"""Running jobs that get their first reading in one sweep: it keeps the first one over an old hub's tables short."""
JOB_COLUMNS = 18
"""How many columns `JOB` selects: what comes behind them is the reader's own."""


def seconds(column: str) -> str:
    return f"TIMESTAMPDIFF(SECOND, '1970-01-01', {column})"


SHORT_ERROR = 256
"""Characters of an error that come along with each disk; a longer one is asked for alone. The watchdog's fit."""
MAX_LOCKED_ROWS = 70_000
"""Rows of jobs with their disks in one transaction: more than one job can have, as many as fit in memory."""

JOB = f"""j.id, j.status, j.current_phase, j.bytes_transferred, j.total_bytes, j.transfer_speed_bps, j.eta_seconds,
 j.progress_percent, j.error_message, {seconds("j.started_at")}, {seconds("j.completed_at")},
 {seconds("j.last_telemetry_at")}, j.telemetry_seq, j.telemetry_idle_seconds, j.telemetry_heard_us,
 {seconds("j.watchdog_failed_at")}, j.watchdog_message, j.vm_backup_context_id"""
_VIEW = f"{JOB}, j.vm_name, j.backup_type, {seconds('j.created_at')}"
# A page of the list is bounded in bytes, too: an error may have 64 KB.
_LISTED = _VIEW.replace("j.error_message", f"LEFT(j.error_message, {LISTED_ERROR_CHARACTERS})")

LISTENING = "SELECT listened_us FROM telemetry_listening WHERE id = 1"

# One guarded statement: several hubs count each second once, a clock that was stepped back counts for nothing.
# SYSDATE is read under the row's lock; UTC_TIMESTAMP would be of the time before the wait for it.
ADVANCE_LISTENING = """UPDATE telemetry_listening SET listened_us = LAST_INSERT_ID(listened_us
 + LEAST(%s, GREATEST(0, TIMESTAMPDIFF(MICROSECOND, advanced_at, SYSDATE(6))))), advanced_at = SYSDATE(6)
 WHERE id = 1"""

# Changes nothing, and fails as any write would where the server takes none.
CHECK_WRITES = "UPDATE telemetry_listening SET listened_us = listened_us WHERE id = 1"

COMMIT = "COMMIT"

# Behind a SELECT: lock what nobody else holds, and leave the rest out of the answer.
SKIP_LOCKED = " FOR UPDATE SKIP LOCKED"


def committed_together(statements: Sequence[str]) -> str:
    """One question to the server instead of one for each: every answer costs the driver's thread a wait for its turn.

    The first that fails ends the block before its COMMIT.
    """
    return f"BEGIN NOT ATOMIC {' ; '.join(statements)} ; COMMIT ; END"


# Asked each time: an administrator can change it while connections live.
DURABLE = "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit = 1"

# Jobs without a time of creation come last.
AFTER_TIME = "(j.created_at < %s OR (j.created_at = %s AND j.id < %s) OR j.created_at IS NULL)"
AFTER_NO_TIME = "(j.created_at IS NULL AND j.id < %s)"


class Statements:
    """The statements on the tables of one kind of job."""

    def __init__(self, kind: JobType) -> None:
        self._kind = kind.name
        self._jobs = kind.jobs_table
        self._disks = kind.disks_table
        self._of_job = kind.disk_job_column
        self.disk = f"""d.{self._of_job}, d.disk_index, d.id, d.status, d.bytes_transferred, d.total_bytes,
 d.progress_percent, {seconds("d.completed_at")}"""
        self._pending, self._running = (kind.job_statuses.stored(status) for status in ("pending", "running"))
        self._failed = kind.job_statuses.stored("failed")
        self._index = f"FROM {self._jobs} FORCE INDEX (idx_telemetry_silence) WHERE status = '{self._running}'"

    def lock_jobs(self, count: int, disk_index: str, disk_collation: str) -> str:
        """Jobs with their disks, a row for each disk, each row one JSON text: the driver's work is per column.

        In the order of the primary key, always: two hubs that lock the same jobs then wait, and never deadlock. Disks
        by their index on the job, always: a scan of the table would wait for the disks of strangers. The listening
        clock's reading comes along, unlocked, to save a question of its own. Of a long error only the beginning, or it
        would come once for each disk.
        """
        job = JOB.replace("j.error_message", f"LEFT(j.error_message, {SHORT_ERROR})")
        return f"""SELECT JSON_ARRAY({job}, {self.disk}), ({LISTENING}) FROM {self._jobs} j FORCE INDEX (PRIMARY)
 LEFT JOIN {self._disks} d FORCE INDEX (`{disk_index}`) ON d.{self._of_job} = j.id COLLATE {disk_collation}
 WHERE j.id IN ({_marks(count)}) ORDER BY j.id LIMIT {MAX_LOCKED_ROWS + 1} FOR UPDATE"""

    def error_messages(self, count: int) -> str:
        """Whole, of jobs that are locked."""
        return f"SELECT id, error_message FROM {self._jobs} FORCE INDEX (PRIMARY) WHERE id IN ({_marks(count)})"

    def rows_of_jobs(self, count: int) -> str:
        """Key and job of these rows, to be asked with and without SKIP_LOCKED: the difference is held by others."""
        return f"SELECT id, id FROM {self._jobs} FORCE INDEX (PRIMARY) WHERE id IN ({_marks(count)})"

    def rows_of_disks(self, count: int, index: str) -> str:
        """The same for the jobs' disks."""
        return f"""SELECT id, {self._of_job} FROM {self._disks} FORCE INDEX (`{index}`)
 WHERE {self._of_job} IN ({_marks(count)})"""

    def write_jobs(self, collation: str) -> str:
        """STRAIGHT_JOIN and the id's own collation: row by row of the JSON, one look-up by primary key each.

        Without the texts: a TEXT among the new values makes the server keep them all in a table on disk.
        """
        return f"""UPDATE JSON_TABLE(%s, '$[*]' COLUMNS (
 id VARCHAR(64) PATH '$[0]',
 status VARCHAR(16) PATH '$[1]', moved BIGINT PATH '$[2]', total BIGINT PATH '$[3]', speed BIGINT PATH '$[4]',
 eta INT PATH '$[5]', percent DOUBLE PATH '$[6]', started VARCHAR(19) PATH '$[7]', completed VARCHAR(19) PATH '$[8]',
 telemetry VARCHAR(19) PATH '$[9]', seq BIGINT PATH '$[10]', idle INT PATH '$[11]', heard BIGINT PATH '$[12]',
 failed VARCHAR(19) PATH '$[13]')) u
 STRAIGHT_JOIN {self._jobs} j FORCE INDEX (PRIMARY) ON j.id = u.id COLLATE {collation}
 SET j.status = u.status, j.bytes_transferred = u.moved, j.total_bytes = u.total, j.transfer_speed_bps = u.speed,
 j.eta_seconds = u.eta, j.progress_percent = u.percent, j.started_at = u.started, j.completed_at = u.completed,
 j.last_telemetry_at = u.telemetry, j.telemetry_seq = u.seq, j.telemetry_idle_seconds = u.idle,
 j.telemetry_heard_us = u.heard, j.watchdog_failed_at = u.failed"""

    def write_texts(self, collation: str) -> str:
        """Text is wider here than in the table, so that what does not fit is an error there, not cut off."""
        return f"""UPDATE JSON_TABLE(%s, '$[*]' COLUMNS (
 id VARCHAR(64) PATH '$[0]',
 phase TEXT PATH '$[1]', error TEXT PATH '$[2]', message TEXT PATH '$[3]')) u
 STRAIGHT_JOIN {self._jobs} j FORCE INDEX (PRIMARY) ON j.id = u.id COLLATE {collation}
 SET j.current_phase = u.phase, j.error_message = u.error, j.watchdog_message = u.message"""

    def write_disks(self) -> str:
        return f"""UPDATE JSON_TABLE(%s, '$[*]' COLUMNS (
 id BIGINT PATH '$[0]', status VARCHAR(16) PATH '$[1]', moved BIGINT PATH '$[2]', total BIGINT PATH '$[3]',
 percent DOUBLE PATH '$[4]', completed VARCHAR(19) PATH '$[5]')) u
 STRAIGHT_JOIN {self._disks} d FORCE INDEX (PRIMARY) ON d.id = u.id
 SET d.status = u.status, d.bytes_transferred = u.moved, d.total_bytes = u.total, d.progress_percent = u.percent,
 d.completed_at = u.completed"""

    def add_disks(self) -> str:
        return f"""INSERT INTO {self._disks} ({self._of_job}, vm_backup_context_id, disk_index, status,
 bytes_transferred, total_bytes, progress_percent, completed_at)
 SELECT job, context, disk_index, status, moved, total, percent, completed FROM JSON_TABLE(%s, '$[*]' COLUMNS (
 job VARCHAR(64) PATH '$[0]', context VARCHAR(64) PATH '$[1]', disk_index INT PATH '$[2]',
 status VARCHAR(16) PATH '$[3]', moved BIGINT PATH '$[4]', total BIGINT PATH '$[5]', percent DOUBLE PATH '$[6]',
 completed VARCHAR(19) PATH '$[7]')) u"""

    def add_history(self) -> str:
        """IGNORE passes over a sample that is there already; it also cuts a phase that another program made long."""
        return f"""INSERT IGNORE INTO telemetry_history (job_type, job_id, seq, at, status, current_phase,
 bytes_transferred, total_bytes, transfer_speed_bps, progress_percent, producer_time)
 SELECT '{self._kind}', job, seq, at, status, phase, moved, total, speed, percent, said
 FROM JSON_TABLE(%s, '$[*]' COLUMNS (
 job VARCHAR(64) PATH '$[0]', seq BIGINT PATH '$[1]', at VARCHAR(23) PATH '$[2]', status VARCHAR(16) PATH '$[3]',
 phase TEXT PATH '$[4]', moved BIGINT PATH '$[5]', total BIGINT PATH '$[6]', speed BIGINT PATH '$[7]',
 percent DOUBLE PATH '$[8]', said TEXT PATH '$[9]')) u"""

    def hear(self, count: int) -> str:
        """The first IN finds by primary key, the second compares exactly. A reading of the clock never falls."""
        marks = _marks(count)
        return f"""UPDATE {self._jobs} FORCE INDEX (PRIMARY)
 SET last_telemetry_at = %s, telemetry_heard_us = GREATEST(COALESCE(telemetry_heard_us, 0), %s)
 WHERE id IN ({marks}) AND BINARY id IN ({marks}) AND status = '{self._running}'"""

    def silent_jobs(self) -> str:
        """All of it stands in the index on (status, telemetry_heard_us), which ends with the primary key: no row is
        read, and its cost does not know how many jobs have finished.
        """
        return f"""SELECT id, telemetry_heard_us {self._index} AND telemetry_heard_us < %s
 ORDER BY telemetry_heard_us LIMIT %s"""

    def unseen(self) -> str:
        """By the same index. What another program holds is left for the next sweep: waiting for it would keep the rows
        locked that were found before it.
        """
        return f"SELECT id {self._index} AND telemetry_heard_us IS NULL LIMIT {UNSEEN_AT_ONCE}{SKIP_LOCKED}"

    def see(self, collation: str) -> str:
        """One look-up by primary key each: a long IN may be read by scanning the table, which waits for strangers."""
        return f"""UPDATE JSON_TABLE(%s, '$[*]' COLUMNS (id VARCHAR(64) PATH '$[0]')) u
 STRAIGHT_JOIN {self._jobs} j FORCE INDEX (PRIMARY) ON j.id = u.id COLLATE {collation}
 SET j.telemetry_heard_us = %s"""

    def never_heard(self) -> str:
        """By the index on (status, last_telemetry_at), and no row either."""
        return f"""SELECT id FROM {self._jobs} FORCE INDEX (idx_last_telemetry)
 WHERE status = '{self._running}' AND last_telemetry_at IS NULL LIMIT %s"""

    def fail_silent(self) -> str:
        """Still running and still silent, or nothing: a `completed` of the same moment is never overwritten.

        By primary key, always, as the writers do: along an index on the status it would lock that first, and the row
        last, and deadlock with a writer that has the row. BINARY: exactly this job.
        """
        return f"""UPDATE {self._jobs} FORCE INDEX (PRIMARY)
 SET status = '{self._failed}', completed_at = %s, error_message = %s, watchdog_failed_at = %s, watchdog_message = %s
 WHERE id = %s AND BINARY id = %s AND status = '{self._running}' AND telemetry_heard_us < %s"""

    def read_job(self) -> str:
        return f"SELECT {_VIEW} FROM {self._jobs} j WHERE j.id = %s AND BINARY j.id = %s"

    def read_disks(self) -> str:
        return f"SELECT {self.disk} FROM {self._disks} d WHERE d.{self._of_job} = %s AND BINARY d.{self._of_job} = %s"

    def read_jobs(self, count: int) -> str:
        return f"SELECT {_VIEW} FROM {self._jobs} j FORCE INDEX (PRIMARY) WHERE j.id IN ({_marks(count)})"

    def read_disks_of(self, count: int, index: str) -> str:
        return f"""SELECT {self.disk} FROM {self._disks} d FORCE INDEX (`{index}`)
 WHERE d.{self._of_job} IN ({_marks(count)})"""

    def list_jobs(self, statuses: int, after: str, *, named: bool = False) -> str:
        """Newest first by (created_at, id); `after` is AFTER_TIME or AFTER_NO_TIME, or empty for the first page.

        Read along the index on created_at until the page is full. What is `named` cannot be found by an index (it may
        stand anywhere in the name): a search reads on until it has found a page of it, or all jobs.
        """
        conditions = [f"j.status IN ({_marks(statuses)})"] if statuses else []
        conditions += ["j.vm_name LIKE %s ESCAPE '|'"] if named else []
        where = " AND ".join(conditions + ([after] if after else [])) or "TRUE"
        return f"SELECT {_LISTED} FROM {self._jobs} j WHERE {where} ORDER BY j.created_at DESC, j.id DESC LIMIT %s"

    def counts(self) -> str:
        return f"""SELECT status, COUNT(*) FROM {self._jobs}
 WHERE status IN ('{self._pending}', '{self._running}') GROUP BY status"""


def _marks(count: int) -> str:
    return ", ".join(["%s"] * count)


def session(timeout_seconds: float) -> Sequence[str]:
    """What every connection is told first.

    Waiting for a lock is short: the transaction is then split, and goes on without the row that somebody holds. The
    server ends what its client has given up, else the locks of a lost connection would outlive it by hours.
    """
    whole = max(1, int(timeout_seconds))
    return (
        "SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',"
        f" innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}, idle_transaction_timeout = {whole},"
        f" max_statement_time = {whole}",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    )
