"""The routes where readers ask about jobs, in words."""

from sha_daemon import openapi_examples as examples
from sha_daemon.database import MAX_PAGE
from sha_daemon.openapi_common import JOB_ID, JOB_TYPE, READING
from sha_daemon.openapi_parts import Operation, Parameter, problem, shape
from sha_daemon.queries import DEFAULT_PAGE, MAX_VM_NAME, STATUSES
from sha_daemon.thinning import MAX_POINTS, MIN_POINTS

NO_JOB_TYPE = "No such job type; the detail names those that there are."
BAD_PARAMETER = "A parameter is out of range, given twice, or not known; the detail names it."

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

HISTORY = Operation(
    method="get",
    path="/api/v1/telemetry/{job_type}/{job_id}/history",
    name="history",
    group=READING,
    title="What was reported of a job, for a chart",
    says="In the order of their event times. Where there are more samples than `points`, these stay: first and last;"
    " the lowest and the highest speed of all; the first of every new status or phase; and, of as many parts as there"
    " is room for, the lowest and the highest speed.",
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
