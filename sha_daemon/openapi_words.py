"""What each field of a message means, for the hub's description. Types and ranges come from the contract itself."""

from collections.abc import Mapping

from telemetry_common.contract import MAX_DISKS, MAX_ERROR_CHARACTERS

SHAPES: Mapping[str, str] = {
    "Update": "One message about a job. Only `status` must be there: **absent means unchanged**, unknown fields are"
    " ignored.",
    "DiskReport": "One disk of the job. What is absent is unchanged.",
    "ErrorInfo": "Why a job failed.",
    "ItemAnswer": "What became of one update of a batch.",
}
_MOVED = "Bytes transferred so far. Never goes backwards: the greater of this and the stored figure is kept."
_TOTAL = "Bytes in all. Any other than 0 replaces the stored one."
_PERCENT = "Over 100 is stored as 100. A lower one than stored is passed over, unless the total grew."

_UPDATE = {
    "job_id": "If given, the same as in the path.",
    "job_type": "If given, the same as in the path.",
    "status": "Only this ends a job: that all its disks are complete does not.",
    "current_phase": "`snapshot`, `transferring` and `finalizing` are the usual ones.",
    "bytes_transferred": _MOVED,
    "total_bytes": _TOTAL,
    "transfer_speed_bps": "**Bytes** per second. A 0 is news (the transfer stands still), but not in a message"
    " whose bytes, total and percent are all 0 or absent.",
    "eta_seconds": "Over 2^31-1 is stored as 2^31-1.",
    "progress_percent": _PERCENT,
    "disks": f"At most {MAX_DISKS}, each `disk_index` once. What is left out of the list is unchanged.",
    "error": "Beside any status but `cancelled` it makes the job `failed`.",
    "timestamp": "When the producer saw this, with its offset from UTC. For the history only.",
    "seq": "Grows with each message of a job; one that is not above the stored one changes nothing. The usual one"
    " is the time in microseconds, or the last one plus 1 where that is greater.",
    "age_seconds": "How long ago this was true, by the sender's monotonic clock: an end is dated when it happened.",
    "idle_seconds": "The producer lives but has said nothing for so long. Absent clears it.",
}

FIELDS: Mapping[str, Mapping[str, str]] = {
    "Update": _UPDATE,
    "UpdateInBatch": _UPDATE | {"job_id": "Which job.", "job_type": "`backup` where it is absent."},
    "ItemAnswer": {
        "job_id": "Null where the update does not name its job.",
        "status": "What the update would have been answered alone.",
        "result": "Only where a 204 changed nothing: why.",
        "seq": "Where the update had a `seq`: the stored one, 0 for none.",
        "job_status": "Where the update had a `seq`: the job's stored status.",
        "detail": "Why it was refused.",
    },
    "DiskReport": {
        "disk_index": "Which disk of the job.",
        "status": "`transferring` is stored as `running`.",
        "bytes_transferred": _MOVED,
        "total_bytes": _TOTAL,
        "progress_percent": _PERCENT,
    },
    "ErrorInfo": {
        "message": f"Its first {MAX_ERROR_CHARACTERS} characters are kept.",
        "code": "Stored in brackets behind the message.",
        "timestamp": "When it happened; not stored.",
    },
}
