"""The hub's own description, OpenAPI 3.1: schemas from the types that the code itself uses, the rest from words."""

from typing import Any

import msgspec

from sha_daemon import api_shapes as shapes
from sha_daemon.http_access import right_for
from sha_daemon.openapi_common import ANYWHERE, GROUPS, GUARDED
from sha_daemon.openapi_operations import OPERATIONS
from sha_daemon.openapi_parts import Operation
from sha_daemon.openapi_words import FIELDS, SHAPES
from sha_daemon.receiving_batch import ItemAnswer
from telemetry_common import __version__
from telemetry_common.contract import Update

SHAPES_SERVED = (
    *(Update, shapes.Batch, ItemAnswer, shapes.ShownJob, shapes.JobPage, shapes.JobHistory),
    *(shapes.GoneJob, shapes.Ready, shapes.Reset, shapes.HealthReport, shapes.ProblemDetails),
)
BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "Only where the hub has tokens. Each has the right to `report`, to `read`, or both.",
}
INTRODUCTION = """\
Telemetry of backup jobs: senders report how their jobs are, readers see it.

JSON in and out. Times are RFC 3339 and UTC, sizes in bytes, speeds in **bytes** per second. Every error is
`application/problem+json` (RFC 9457), whose `detail` names the field and what was expected. A path that is not
described here is a 404, another method than described a 405. What GET answers, HEAD answers without the body.

Where the hub has tokens, every request carries one (`Authorization: Bearer TOKEN`) but those for health and this
description. No answer has a header of CORS: only pages of the hub's own may ask it from a browser.
"""


def document() -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Backup telemetry hub",
            "version": __version__,
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This hub."}],
        "tags": [{"name": name, "description": says} for name, says in GROUPS.items()],
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": {"bearer": BEARER}},
    }


def _described(operation: Operation) -> dict[str, Any]:
    right = right_for(operation.method.upper(), operation.path)
    answers = {**ANYWHERE, **(GUARDED if right else {}), **operation.answers}
    said: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.group],
        "security": [{"bearer": [right]}, {}] if right else [],
        "summary": operation.title,
        "description": operation.says,
        "parameters": [parameter.described() for parameter in operation.parameters],
        "responses": {str(status): answers[status].described() for status in sorted(answers)},
    }
    if operation.body is not None:
        content = {"application/json": {"schema": operation.body, "example": operation.body_example}}
        said["requestBody"] = {"required": True, "content": content}
    return said


def _schemas() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(SHAPES_SERVED, ref_template="#/components/schemas/{name}")
    for name, says in SHAPES.items():
        schemas[name]["description"] = says
    for name, fields in FIELDS.items():
        for field, says in fields.items():
            schemas[name]["properties"][field]["description"] = says
    return schemas
