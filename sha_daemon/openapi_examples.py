"""The examples of the hub's description. The tests hold each against its schema."""

from typing import Any

JOB_ID = "backup-pgtest1-1728518400"

UPDATE: dict[str, Any] = {
    "status": "running",
    "current_phase": "transferring",
    "bytes_transferred": 45678901234,
    "total_bytes": 109521739776,
    "transfer_speed_bps": 125000000,
    "eta_seconds": 512,
    "progress_percent": 41.7,
    "disks": [
        {
            "disk_index": 0,
            "status": "transferring",
            "bytes_transferred": 42949672960,
            "total_bytes": 102000000000,
            "progress_percent": 42.1,
        },
        {"disk_index": 1, "status": "pending", "bytes_transferred": 2729228274, "total_bytes": 7521739776},
    ],
    "error": None,
    "timestamp": "2025-10-10T14:23:45Z",
    "seq": 1760106225000001,
    "age_seconds": 0.2,
}

BATCH = {
    "updates": [
        {"job_id": "backup-vm1-1", "status": "running", "bytes_transferred": 5242880, "seq": 1760106225000001},
        {"job_id": "backup-vm2-1", "status": "completed", "seq": 8},
        {"job_id": "backup-vm3-1", "status": "running"},
    ]
}

ITEM_ANSWERS = [
    {"job_id": "backup-vm1-1", "status": 204, "seq": 1760106225000001, "job_status": "running"},
    {"job_id": "backup-vm2-1", "status": 204, "result": "final", "seq": 7, "job_status": "cancelled"},
    {"job_id": "backup-vm3-1", "status": 404, "detail": "no backup job 'backup-vm3-1'"},
]

LISTED: dict[str, Any] = {
    "job_id": JOB_ID,
    "job_type": "backup",
    "vm_name": "pgtest1",
    "backup_type": "full",
    "status": "running",
    "current_phase": "transferring",
    "bytes_transferred": 45678901234,
    "total_bytes": 109521739776,
    "transfer_speed_bps": 125000000,
    "eta_seconds": 512,
    "progress_percent": 41.7,
    "error_message": None,
    "created_at": "2025-10-10T14:15:00Z",
    "started_at": "2025-10-10T14:15:02Z",
    "completed_at": None,
    "last_telemetry_at": "2025-10-10T14:23:45Z",
    "seq": 1760106225000001,
    "idle_seconds": None,
    "seconds_since_heard": 2,
    "silence_seconds": 2.1,
    "never_heard": False,
    "silent": False,
    "idle": False,
    "stalled": False,
}

JOB = LISTED | {
    "disks": [
        {
            "disk_index": 0,
            "status": "running",
            "bytes_transferred": 42949672960,
            "total_bytes": 102000000000,
            "progress_percent": 42.1,
            "completed_at": None,
        }
    ]
}

HISTORY = {
    "job_id": JOB_ID,
    "job_type": "backup",
    "stored": 1,
    "samples": [
        {
            "at": "2025-10-10T14:23:45.250Z",
            "seq": 1760106225000001,
            "status": "running",
            "current_phase": "transferring",
            "bytes_transferred": 45678901234,
            "total_bytes": 109521739776,
            "transfer_speed_bps": 125000000,
            "progress_percent": 41.7,
            "producer_time": "2025-10-10T14:23:45+00:00",
        }
    ],
}

PAGE = {"jobs": [LISTED], "next_cursor": None}

HEALTH = {
    "status": "ok",
    "version": "0.1.0",
    "database": "ok",
    "jobs": {"pending": 0, "running": 3},
    "silent": 0,
    "never_heard": 0,
    "queued": 0,
    "committed": 5120,
}

DEGRADED = HEALTH | {
    "status": "degraded",
    "database": "unreachable since 2025-10-10 14:23:45 UTC; the hub's journal and `shactl db status` say why",
}

METRICS = """# HELP sha_updates_accepted_total Updates taken into the queue.
# TYPE sha_updates_accepted_total counter
sha_updates_accepted_total{job_type="backup"} 5120.0
"""

EVENTS = """\
event: job
data: {"job_id":"backup-web1-1","job_type":"backup","status":"running", ...}

id: 5f1c09ae-41
event: ready
data: {"jobs":1}

id: 5f1c09ae-42
event: job
data: {"job_id":"backup-web1-1","job_type":"backup","status":"completed", ...}

"""
