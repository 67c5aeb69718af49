"""The shapes of what the hub answers, for its description (`openapi`). The tests hold every answer against them.

Figures that are stored have no bounds here: what another program wrote into the tables is shown as it is.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sha_daemon.receiving_batch import MAX_ITEMS
from sha_daemon.records import StoredDiskStatus, StoredStatus
from sha_daemon.stream_events import Reason
from sha_daemon.thinning import MAX_POINTS
from telemetry_common.contract import JobId, Update

Count = Annotated[int, Meta(ge=0)]
Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", extra_json_schema={"format": "date-time"})]
"""RFC 3339, UTC, whole seconds."""


class UpdateInBatch(Update, frozen=True, kw_only=True):
    """An update that names its job itself; `job_type` is `backup` where it is absent."""

    job_id: JobId


class Batch(Struct, frozen=True):
    """Many updates. Those of one job are applied in the order of the list."""

    updates: Annotated[tuple[UpdateInBatch, ...], Meta(max_length=MAX_ITEMS)]


class ShownDisk(Struct, kw_only=True, forbid_unknown_fields=True):
    """One disk of a job."""

    disk_index: int
    status: StoredDiskStatus
    bytes_transferred: int
    total_bytes: Annotated[int, Meta(description="0 where nobody has said it.")]
    progress_percent: float
    completed_at: Annotated[Time | None, Meta(description="When it completed or failed.")]


class ListedJob(Struct, kw_only=True, forbid_unknown_fields=True):
    """A job in the list: all of it but its disks."""

    job_id: str
    job_type: str
    vm_name: str
    backup_type: str
    status: StoredStatus
    current_phase: str
    bytes_transferred: int
    total_bytes: Annotated[int, Meta(description="0 where nobody has said it.")]
    transfer_speed_bps: Annotated[int, Meta(description="Bytes per second.")]
    eta_seconds: int
    progress_percent: float
    error_message: Annotated[str | None, Meta(description="In the list its first 1,000 characters.")]
    created_at: Time | None
    started_at: Time | None
    completed_at: Annotated[Time | None, Meta(description="When it ended, however it did.")]
    last_telemetry_at: Annotated[Time | None, Meta(description="When the hub last heard of it.")]
    seq: Annotated[int | None, Meta(description="The number of the last message that was applied, if it had one.")]
    idle_seconds: Annotated[
        int | None, Meta(description="The producer lives but has said nothing for so long; null while it speaks.")
    ]
    seconds_since_heard: Annotated[Count | None, Meta(description="By the hub's wall clock, for people.")]
    silence_seconds: Annotated[
        float | None,
        Meta(
            description="Silence while the hub could listen: what the watchdog goes by. Null unless running and heard."
        ),
    ]
    never_heard: Annotated[bool, Meta(description="Running, and has never sent telemetry (an older client).")]
    silent: Annotated[bool, Meta(description="Running, and silent for longer than `watchdog.warn_seconds`.")]
    idle: Annotated[
        bool,
        Meta(
            description="Running and heard, but only of the sidecar: the producer lives and has said nothing for longer"
            " than `watchdog.warn_seconds`."
        ),
    ]
    stalled: Annotated[
        bool, Meta(description="Failed by the watchdog, and not touched since: revived when it is heard again.")
    ]


class ShownJob(ListedJob, kw_only=True, forbid_unknown_fields=True):
    """A job with its disks."""

    disks: tuple[ShownDisk, ...]


class JobPage(Struct, kw_only=True, forbid_unknown_fields=True):
    """One page of the list, newest first."""

    jobs: tuple[ListedJob, ...]
    next_cursor: Annotated[str | None, Meta(description="The `cursor` of the next page; null on the last.")]


class ShownSample(Struct, kw_only=True, forbid_unknown_fields=True):
    """The job as it was at one time."""

    at: Annotated[
        str,
        Meta(
            description="When it was true by the hub's clock: the receipt less the message's `age_seconds`.",
            pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
            extra_json_schema={"format": "date-time"},
        ),
    ]
    seq: int | None
    status: StoredStatus
    current_phase: str
    bytes_transferred: int
    total_bytes: int
    transfer_speed_bps: int
    progress_percent: float
    producer_time: Annotated[
        str | None, Meta(description="The `timestamp` of the message, as the producer's clock had it.")
    ]


class JobHistory(Struct, kw_only=True, forbid_unknown_fields=True):
    """A job's samples, thinned where there are more than were asked for."""

    job_id: str
    job_type: str
    stored: Annotated[Count, Meta(description="How many samples the hub has.")]
    samples: Annotated[tuple[ShownSample, ...], Meta(max_length=MAX_POINTS)]


class GoneJob(Struct, kw_only=True, forbid_unknown_fields=True):
    """Event `gone`: the job's row was deleted."""

    job_id: str
    job_type: str


class Ready(Struct, kw_only=True, forbid_unknown_fields=True):
    """Event `ready`: the first jobs are complete; from here on, changes."""

    jobs: Annotated[Count, Meta(description="How many they were.")]


class Reset(Struct, kw_only=True, forbid_unknown_fields=True):
    """Event `reset`: forget what you know; the jobs follow anew."""

    reason: Annotated[
        Reason,
        Meta(
            description="`epoch`: the hub was restarted, or nobody listened for a minute; `gap`: more has happened than"
            " it keeps."
        ),
    ]


class JobCounts(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Jobs that have not ended, as of the last look at the database (every 5 s); empty before the first."""

    pending: Count = 0
    running: Count = 0


class HealthReport(Struct, kw_only=True, forbid_unknown_fields=True):
    """How the hub is."""

    status: Annotated[Literal["ok", "degraded"], Meta(description="`degraded` where somebody should look.")]
    version: str
    database: Annotated[str, Meta(description="`ok`, or what is wrong and since when.")]
    jobs: JobCounts
    silent: Annotated[Count, Meta(description="Jobs that were silent at the last sweep.")]
    never_heard: Annotated[Count, Meta(description="Running jobs that have never sent telemetry.")]
    queued: Annotated[Count, Meta(description="Updates that wait for the database.")]
    committed: Annotated[Count, Meta(description="Updates committed since the start.")]


class ProblemDetails(Struct, kw_only=True, forbid_unknown_fields=True):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: Annotated[str, Meta(description="Names the field, and what was expected.")]
