"""Every route of the hub in words: what it takes, and each answer that it can give. The tests provoke each of them."""

from collections.abc import Mapping
from typing import get_args

from sha_daemon import openapi_examples as examples
from sha_daemon.database import MAX_PAGE
from sha_daemon.job_types import JOB_TYPES
from sha_daemon.openapi_parts import Answer, Header, Operation, Parameter, problem, ref, shape
from sha_daemon.reading import DEFAULT_PAGE, STATUSES
from sha_daemon.replies import RETRY_AFTER_SECONDS
from sha_daemon.transitions import Result
from telemetry_common.contract import MAX_BODY_BYTES, MAX_JOB_ID

REPORTING, READING, OPERATING = "Reporting", "Reading", "Operating"
GROUPS = {
    REPORTING: "Where senders say how their jobs are.",
    READING: "Where people and programs see it.",
    OPERATING: "How the hub itself is, and this description.",
}

RETRY = Header(
    f"Seconds to wait before the next attempt; {RETRY_AFTER_SECONDS}.", {"type": "integer", "minimum": 1}, always=True
)
ANYWHERE: Mapping[int, Answer] = {
    500: problem("The hub failed; its journal has the reason. Try again."),
    503: problem(
        "The hub is starting or stopping, has too many connections, or its database is away.", Retry_After=RETRY
    ),
}
"""What any request can meet."""

JOB_TYPE = Parameter(
    name="job_type",
    says="The kind of job.",
    schema={"type": "string", "enum": [kind.name for kind in JOB_TYPES]},
    example="backup",
)
JOB_ID = Parameter(
    name="job_id",
    says="The job's id, compared exactly: upper and lower case differ.",
    schema={"type": "string", "minLength": 1, "maxLength": MAX_JOB_ID},
    example=examples.JOB_ID,
)
NO_JOB_TYPE = "No such job type; the detail names those that there are."
NO_JOB_ID = problem("The path has no `job_id`.")

REPORT = Operation(
    method="post",
    path="/api/v1/telemetry/{job_type}/{job_id}",
    name="report",
    group=REPORTING,
    title="Report on a job",
    says="Commits one update to the database, and only then answers. `Content-Type: application/json` is required; the"
    f" body is at most {MAX_BODY_BYTES >> 20} MiB. Every message about a running job counts as hearing it, also a stale"
    " one or one refused with 400.\n\n"
    "**Order.** With `seq` an update applies only if it is greater than the stored one, which makes every retry"
    " harmless. Without it the last update wins.",
    parameters=(JOB_TYPE, JOB_ID),
    body=ref("Update"),
    body_example=examples.UPDATE,
    answers={
        204: Answer(
            says="Committed, or it changed nothing and `Telemetry-Result` says why. Never before the COMMIT.",
            headers={
                "Telemetry-Result": Header(
                    "Only where the update changed nothing: `duplicate` (this `seq` is stored), `stale` (a greater one"
                    " is stored), `final` (the job has ended).",
                    {"enum": [result for result in get_args(Result) if result != "applied"]},
                ),
                "Telemetry-Seq": Header(
                    "Where the message had a `seq`: the stored one, 0 for none.", {"type": "integer", "minimum": 0}
                ),
                "Telemetry-Status": Header(
                    "Where the message had a `seq`: the job's stored status. A sender so learns that its job was"
                    " cancelled or failed here.",
                    {"enum": list(STATUSES)},
                ),
            },
        ),
        400: problem(
            "Not JSON, a wrong type, out of range, or another `job_id` than in the path. Do not send it again."
        ),
        404: problem("No such job, or no such job type. Keep it and try slowly: the job may appear."),
        408: problem("The body did not arrive in time. Try again."),
        413: problem(f"The body is over {MAX_BODY_BYTES} bytes. Do not send it again."),
        415: problem("The body is not `application/json`. Do not send it again."),
        500: problem("The database refused this update, or another program holds the row. Try again."),
        503: problem(
            "Starting, stopping, too many connections, queue full, or the database is away. Try again.",
            Retry_After=RETRY,
        ),
    },
)

BATCH = Operation(
    method="post",
    path="/api/v1/telemetry/batch",
    name="report_many",
    group=REPORTING,
    title="Report on many jobs at once",
    says="Each update is committed or refused as if it had come alone: one that is bad spoils no other. The answer"
    " comes when that is done for all of them, and has one entry an update, in order.",
    body=ref("Batch"),
    body_example=examples.BATCH,
    answers={
        200: Answer(
            says="One entry an update, whatever became of them.",
            media="application/json",
            schema={"type": "array", "items": ref("ItemAnswer")},
            example=examples.ITEM_ANSWERS,
        ),
        400: problem("Not JSON, no list, or too long a list. Nothing is stored: send the updates singly."),
        408: problem("The body did not arrive in time. Try again."),
        413: problem(f"The body is over {MAX_BODY_BYTES} bytes. Send the updates singly, or fewer at once."),
        415: problem("The body is not `application/json`. Do not send it again."),
    },
)

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
            name="limit",
            place="query",
            says="Jobs on the page.",
            schema={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
            example="20",
        ),
        Parameter(
            name="cursor",
            place="query",
            says="The `next_cursor` of the page before; none for the first.",
            schema={"type": "string", "minLength": 1},
            example="",
        ),
    ),
    answers={
        200: shape("JobPage", "One page.", examples.PAGE),
        400: problem("A parameter is out of range; the detail names it."),
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
        404: problem("No such job, or no such job type."),
    },
)

HEALTH = Operation(
    method="get",
    path="/api/v1/health",
    name="health",
    group=OPERATING,
    title="How the hub is",
    says="200 while updates are taken, else 503; either way with what is wrong. Never needs a token.",
    answers={
        200: shape("HealthReport", "Updates are taken.", examples.HEALTH),
        503: shape("HealthReport", "Updates are not taken; `database` says why.", examples.DEGRADED),
    },
)

METRICS = Operation(
    method="get",
    path="/metrics",
    name="metrics",
    group=OPERATING,
    title="Figures for Prometheus",
    says="In the text format. At every scrape, of every job type: `sha_updates_accepted_total` ="
    " `sha_updates_ended_total` (all results) + `sha_updates_waiting`.",
    answers={200: Answer(says="All figures.", media="text/plain", schema={"type": "string"}, example=examples.METRICS)},
)

DESCRIPTION = Operation(
    method="get",
    path="/api/v1/openapi.json",
    name="openapi",
    group=OPERATING,
    title="This description",
    says="OpenAPI 3.1.",
    answers={200: Answer(says="The description.", media="application/json", schema={"type": "object"})},
)

PAGE = Operation(
    method="get",
    path="/api/v1/docs",
    name="docs",
    group=OPERATING,
    title="This page",
    says="The description to browse. Loads nothing from elsewhere.",
    answers={200: Answer(says="The page.", media="text/html", schema={"type": "string"})},
)


def _without_id(path: str, name: str) -> Operation:
    return Operation(
        method="post",
        path=path,
        name=name,
        group=REPORTING,
        title="A report without a job id",
        says="Always refused: the id belongs into the path.",
        parameters=(JOB_TYPE,),
        answers={400: NO_JOB_ID},
    )


OPERATIONS = (
    LIST,
    _without_id("/api/v1/telemetry/{job_type}", "report_without_id"),
    JOB,
    REPORT,
    BATCH,
    _without_id("/api/v1/telemetry/{job_type}/", "report_with_empty_id"),
    HEALTH,
    METRICS,
    DESCRIPTION,
    PAGE,
)
