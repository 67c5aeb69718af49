"""What the operations of the hub's description share: groups, parameters, and the answers that any request can meet."""

from collections.abc import Mapping

from sha_daemon import openapi_examples as examples
from sha_daemon.job_types import JOB_TYPES
from sha_daemon.openapi_parts import Answer, Header, Parameter, problem
from sha_daemon.replies import RETRY_AFTER_SECONDS
from telemetry_common.contract import MAX_JOB_ID

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
    400: problem("This is no HTTP request."),
    414: problem("The request line is too long."),
    417: problem("`Expect` is something else than `100-continue`."),
    421: problem("The hub was called by a name (`Host`) that is not its own; `listen.allowed_hosts` has those."),
    431: problem("The header fields are too long, or too many."),
    500: problem("The hub failed; its journal has the reason. Try again."),
    503: problem(
        "The hub is starting or stopping, has too many connections, or its database is away.", Retry_After=RETRY
    ),
}
"""What any request can meet."""

CHALLENGE = Header("`Bearer`, with the error and the right that is needed.", {"type": "string"}, always=True)
GUARDED: Mapping[int, Answer] = {
    401: problem("The hub has tokens, and this request carries none that it knows.", WWW_Authenticate=CHALLENGE),
    403: problem("The token has not the right that is needed.", WWW_Authenticate=CHALLENGE),
}
"""What a request can meet that needs a right."""

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
