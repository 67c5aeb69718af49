"""The routes where readers ask about jobs, in words."""

from sha_daemon import openapi_examples as examples
from sha_daemon.database import MAX_PAGE
from sha_daemon.openapi_common import JOB_ID, JOB_TYPE, READING, RETRY
from sha_daemon.openapi_parts import Answer, Operation, Parameter, problem, ref, shape
from sha_daemon.queries import DEFAULT_PAGE, MAX_VM_NAME, STATUSES
from sha_daemon.stream_events import MEDIA_TYPE
from sha_daemon.thinning import MAX_POINTS, MIN_POINTS

NO_JOB_TYPE = "No such job type; the detail names those that there are."
BAD_PARAMETER = "A parameter is out of range, given twice, or not known; the detail names it."

EVENTS = {"job": ref("ShownJob"), "gone": ref("GoneJob"), "ready": ref("Ready"), "reset": ref("Reset")}
"""What the data of an event of this name is."""

LIST = Operation(
    method="get",
    path="/api/v1/telemetry/{job_type}",
    name="jobs",
    group=READING,
    title="List jobs",
    says="Newest first, a page at a time.",
    parameters=(
        JOB_TYPE,
        Parameter(
            name="status",
            place="query",
            says="Only jobs of this status; several by comma. Absent or empty: all.",
            schema={"type": "array", "items": {"enum": list(STATUSES)}},
            example="pending,running",
        ),
        Parameter(
            name="vm",
            place="query",
            says="Only jobs with this text anywhere in `vm_name`, upper and lower case and accents being the same.",
            schema={"type": "string", "maxLength": MAX_VM_NAME},
            example="web",
        ),
        Parameter(
            name="limit",
            place="query",
            says="Jobs on the page.",
            schema={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
            example="20",
        ),
        Parameter(
            name="cursor",
            place="query",
            says="The `next_cursor` of the page before, with the same `status` and `vm`; none for the first.",
            schema={"type": "string", "minLength": 1},
            example="",
        ),
    ),
    answers={
        200: shape("JobPage", "One page.", examples.PAGE),
        400: problem(BAD_PARAMETER),
        404: problem(NO_JOB_TYPE),
    },
)

JOB = Operation(
    method="get",
    path="/api/v1/telemetry/{job_type}/{job_id}",
    name="job",
    group=READING,
    title="One job with its disks",
    says="As it is stored, and how the hub hears it.",
    parameters=(JOB_TYPE, JOB_ID),
    answers={
        200: shape("ShownJob", "The job.", examples.JOB),
        400: problem("It takes no parameters."),
        404: problem("No such job, or no such job type."),
    },
)

STREAM = Operation(
    method="get",
    path="/api/v1/telemetry/stream",
    name="stream",
    group=READING,
    title="Follow the changes",
    says="Server-Sent Events. First come the jobs that are pending or running, up to `ready`; then each change within"
    " 100 ms of its COMMIT, what other programs write to the tables within about a second.\n\n"
    "A reader that comes again with the `id` it saw last is told exactly what came after it. Where that cannot be,"
    " `reset` comes first: forget what you know, the jobs follow anew. Slow readers are dropped, never waited for.",
    parameters=(
        Parameter(name="job_id", place="query", says="Only this job.", schema=JOB_ID.schema, example=JOB_ID.example),
        Parameter(
            name="job_type",
            place="query",
            says="The kind of that job; `backup` if absent.",
            schema=JOB_TYPE.schema,
            example=JOB_TYPE.example,
        ),
        Parameter(
            name="Last-Event-ID",
            place="header",
            says="The `id` seen last; a browser sends it by itself when it comes again.",
            schema={"type": "string"},
            example="5f1c09ae-42",
        ),
    ),
    answers={
        200: Answer(
            says="The stream, for as long as the reader stays. The data of each event is JSON.",
            media=MEDIA_TYPE,
            schema={"type": "string", "x-events": EVENTS},
            example=examples.EVENTS,
        ),
        400: problem(f"{BAD_PARAMETER} Or `job_type` is given without a `job_id`."),
        404: problem("No such job, or no such job type."),
        503: problem(
            "The hub is starting or stopping, has too many connections or readers, or its database is away.",
            Retry_After=RETRY,
        ),
    },
)

HISTORY = Operation(
    method="get",
    path="/api/v1/telemetry/{job_type}/{job_id}/history",
    name="history",
    group=READING,
    title="A job's history, for charts",
    says="What was reported, in the order of event times. Where there are more samples than `points`, these stay: first"
    " and last; the lowest and the highest speed of all; the first of every new status or phase; and, of as many parts"
    " as there is room for, the lowest and the highest speed.",
    parameters=(
        JOB_TYPE,
        JOB_ID,
        Parameter(
            name="points",
            place="query",
            says="How many samples come at most.",
            schema={"type": "integer", "minimum": MIN_POINTS, "maximum": MAX_POINTS, "default": MAX_POINTS},
            example="100",
        ),
    ),
    answers={
        200: shape("JobHistory", "The samples; none for a job that never reported.", examples.HISTORY),
        400: problem(BAD_PARAMETER),
        404: problem("No such job, or no such job type."),
    },
)
