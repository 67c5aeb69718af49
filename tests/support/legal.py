"""What must be true of every stored row, whatever was sent; as a rule over rows, and as triggers of the database."""

from sha_daemon.records import Disk, Job
from telemetry_common.contract import FINAL, MAX_AMOUNT, MAX_ERROR_CHARACTERS, MAX_ETA_SECONDS, MAX_SEQ

_RULES = {
    "backup_jobs": """NEW.bytes_transferred < OLD.bytes_transferred OR NEW.telemetry_seq < OLD.telemetry_seq
 OR (OLD.telemetry_seq IS NOT NULL AND NEW.telemetry_seq IS NULL) OR NEW.progress_percent NOT BETWEEN 0 AND 100
 OR LEAST(NEW.bytes_transferred, NEW.total_bytes, NEW.transfer_speed_bps, NEW.eta_seconds) < 0
 OR (OLD.status IN ('completed', 'failed', 'cancelled') AND NEW.status <> OLD.status)
 OR (NEW.status IN ('completed', 'failed', 'cancelled') AND NEW.completed_at IS NULL)
 OR (NEW.status = 'completed' AND (NEW.progress_percent < 100 OR NEW.eta_seconds <> 0))""",
    "backup_disks": """NEW.bytes_transferred < OLD.bytes_transferred OR NEW.total_bytes < 0
 OR NEW.progress_percent NOT BETWEEN 0 AND 100 OR (OLD.status = 'completed' AND NEW.status <> OLD.status)""",
}
TRIGGERS = tuple(
    f"CREATE TRIGGER legal_{table} BEFORE UPDATE ON {table} FOR EACH ROW"
    f" IF {rule} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'an illegal row'; END IF"
    for table, rule in _RULES.items()
)
"""An illegal change is refused by the server, so that its sender gets a 500."""


def wrong(before: Job, after: Job) -> list[str]:
    """What is not legal about a job that was `before`; nothing of this test's jobs is failed by the watchdog."""
    claims = {
        "bytes": before.bytes_transferred <= after.bytes_transferred <= MAX_AMOUNT,
        "total": 0 <= after.total_bytes <= MAX_AMOUNT,
        "speed": 0 <= after.transfer_speed_bps <= MAX_AMOUNT,
        "eta": 0 <= after.eta_seconds <= MAX_ETA_SECONDS,
        "percent": 0 <= after.progress_percent <= 100,
        "phase": len(after.current_phase) <= 50,
        "seq": (before.seq or 0) <= (after.seq or 0) <= MAX_SEQ,
        "error": len(after.error_message or "") <= MAX_ERROR_CHARACTERS,
        "end": before.status == after.status or before.status not in FINAL,
        "time of the end": (after.status in FINAL) == (after.completed_at is not None),
        "completed": after.status != "completed" or (after.progress_percent, after.eta_seconds) == (100, 0),
        "disks": _disks_are_legal(before, after),
    }
    return [name for name, true in claims.items() if not true]


def _disks_are_legal(before: Job, after: Job) -> bool:
    earlier = {disk.disk_index: disk for disk in before.disks}
    later = {disk.disk_index: disk for disk in after.disks}
    return earlier.keys() <= later.keys() and all(
        _disk_is_legal(earlier.get(index, Disk(disk_index=index)), disk) for index, disk in later.items()
    )


def _disk_is_legal(before: Disk, after: Disk) -> bool:
    return (
        0 <= after.disk_index <= 65535
        and before.bytes_transferred <= after.bytes_transferred <= MAX_AMOUNT
        and 0 <= after.total_bytes <= MAX_AMOUNT
        and 0 <= after.progress_percent <= 100
        and (before.status != "completed" or after.status == "completed")
    )
