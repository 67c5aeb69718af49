"""The routes where senders report, in words."""

from typing import get_args

from sha_daemon import openapi_examples as examples
from sha_daemon.openapi_common import JOB_ID, JOB_TYPE, REPORTING, RETRY
from sha_daemon.openapi_parts import Answer, Header, Operation, problem, ref
from sha_daemon.queries import STATUSES
from sha_daemon.transitions import Result
from telemetry_common.contract import MAX_BODY_BYTES

LATE = problem("The body did not arrive in time. Try again.")
NO_JSON = problem(
    "The body is not `application/json`, or in an encoding that is not taken. Do not send it again.",
    Accept_Encoding=Header("The encodings that are taken, where it is about these.", {"type": "string"}),
)

REPORT = Operation(
    method="post",
    path="/api/v1/telemetry/{job_type}/{job_id}",
    name="report",
    group=REPORTING,
    title="Report on a job",
    says="Commits one update to the database, and only then answers. `Content-Type: application/json` is required. The"
    f" body is at most {MAX_BODY_BYTES >> 20} MiB, also once it is decompressed: it may come with `Content-Encoding:"
    " gzip` or `deflate`. Every message about a running job counts as hearing it, also a stale one or one refused with"
    " 400.\n\n"
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
        408: LATE,
        413: problem(f"The body is over {MAX_BODY_BYTES} bytes. Do not send it again."),
        415: NO_JSON,
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
        400: problem(
            "Not JSON, no list, too long a list, or damaged gzip. Nothing is stored: send the updates singly."
        ),
        408: LATE,
        413: problem(f"The body is over {MAX_BODY_BYTES} bytes. Send the updates singly, or fewer at once."),
        415: NO_JSON,
    },
)


def _without_id(path: str, name: str, title: str) -> Operation:
    return Operation(
        method="post",
        path=path,
        name=name,
        group=REPORTING,
        title=title,
        says="Always refused: the id belongs into the path.",
        parameters=(JOB_TYPE,),
        answers={400: problem("The path has no `job_id`.")},
    )


WITHOUT_ID = _without_id("/api/v1/telemetry/{job_type}", "report_without_id", "A report without a job id")
WITH_EMPTY_ID = _without_id("/api/v1/telemetry/{job_type}/", "report_with_empty_id", "A report with an empty job id")
