"""The hub's description of itself: nothing that it serves is missing, nothing is described that it does not do."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import schemathesis
from aiohttp import web

from sha_daemon import openapi_examples, stream_events
from sha_daemon.api_shapes import ListedJob, ShownJob
from sha_daemon.app import Hub
from sha_daemon.config import HubSettings
from sha_daemon.gate import Gate
from sha_daemon.http_api import application
from sha_daemon.openapi_reading import EVENTS
from sha_daemon.openapi_words import FIELDS
from sha_daemon.stream_events import Reason
from telemetry_common.clock import SystemClock
from telemetry_common.contract import decode_update
from telemetry_common.lifecycle import Lifecycle
from testbed.memory_database import MemoryDatabase
from tests.support.described import description, errors, operations, wrong
from tests.support.found import MESSAGES
from tests.support.hub import Heard

ROOT = Path(__file__).parent.parent


@pytest.fixture
def app() -> web.Application:
    clock = SystemClock()
    hub = Hub(HubSettings(), clock, lambda kind, _: MemoryDatabase(clock), Lifecycle(Heard(), clock))
    return application(hub, Gate())


def test_every_route_is_described_and_every_description_has_its_route(app: web.Application) -> None:
    """HEAD comes with each GET; `*` is for what no route takes."""
    routes = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}
    assert {key for key in routes if key[0] not in ("HEAD", "*")} == operations().keys()


def test_it_is_openapi_3_1() -> None:
    schemathesis.openapi.from_dict(description()).validate()
    names = [operation["operationId"] for operation in operations().values()]
    assert len(set(names)) == len(names)
    groups = {tag["name"] for tag in description()["tags"]}
    assert groups == {operation["tags"][0] for operation in operations().values()}


def test_every_status_that_the_code_names_is_described() -> None:
    described = {int(status) for operation in operations().values() for status in operation["responses"]}
    assert set(statuses_in_the_code()) - WITHOUT_A_ROUTE <= described


WITHOUT_A_ROUTE = {405}
"""Said by the introduction: where there is no such path or method, there is no operation to describe it with."""


def statuses_in_the_code() -> Iterator[int]:
    """The first argument of every Problem and Reply, and what the HTTP library raises by itself."""
    yield from (404, 405, 413)
    for file in (ROOT / "sha_daemon").glob("*.py"):
        for call in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("Problem", "Reply"):
                first = call.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, int):
                    yield first.value


def test_every_field_of_a_message_is_put_into_words_and_no_other() -> None:
    schemas = description()["components"]["schemas"]
    assert {name: set(schemas[name]["properties"]) for name in FIELDS} == {n: set(f) for n, f in FIELDS.items()}
    assert all(schema.get("description") for schema in schemas.values())


def test_a_job_is_listed_with_all_but_its_disks() -> None:
    assert set(ShownJob.__struct_fields__) - set(ListedJob.__struct_fields__) == {"disks"}


def examples() -> Iterator[tuple[str, dict[str, Any], Any]]:
    for (method, path), operation in operations().items():
        places = [("body", operation.get("requestBody", {}))]
        places += [(status, answer) for status, answer in operation["responses"].items()]
        for name, place in places:
            for content in place.get("content", {}).values():
                if "example" in content:
                    yield f"{method} {path} {name}", content["schema"], content["example"]


@pytest.mark.parametrize(("schema", "example"), [pytest.param(s, e, id=name) for name, s, e in examples()])
def test_an_example_is_one_of_what_it_stands_for(schema: dict[str, Any], example: object) -> None:
    assert errors(schema, example) == []


def test_the_example_of_a_message_is_one_that_the_hub_takes() -> None:
    assert decode_update(json.dumps(openapi_examples.UPDATE).encode()).seq


UPDATE = {"$ref": "#/components/schemas/Update"}
BEYOND_SCHEMAS = {"disk-twice", "half-surrogate"}
"""Refused for what no schema can say: unique by one field, text with a form in UTF-8."""


@pytest.mark.parametrize("path", sorted((MESSAGES / "accepted").glob("*.json")), ids=lambda path: path.stem)
def test_what_the_hub_takes_is_legal_by_the_description(path: Path) -> None:
    assert errors(UPDATE, json.loads(path.read_bytes())) == []


@pytest.mark.parametrize("path", sorted((MESSAGES / "refused").glob("*.txt")), ids=lambda path: path.stem)
def test_what_the_hub_refuses_is_not_legal_by_the_description(path: Path) -> None:
    body = path.read_bytes().split(b"\n", 1)[1]
    try:
        message = json.loads(body)
    except ValueError:
        return  # no JSON at all
    assert bool(errors(UPDATE, message)) == (path.stem not in BEYOND_SCHEMAS)


@pytest.mark.parametrize(
    "event", [stream_events.gone(("backup", "j1"), ""), *map(stream_events.reset, get_args(Reason))], ids=str
)
def test_an_event_that_is_no_job_is_as_described_too(event: bytes) -> None:
    name, data = event.decode().strip().split("\n")
    assert errors(dict(EVENTS[name.removeprefix("event: ")]), json.loads(data.removeprefix("data: "))) == []


JOB = ("GET", "/api/v1/telemetry/{job_type}/{job_id}")


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (web.json_response(openapi_examples.JOB), ""),
        (web.json_response(openapi_examples.JOB | {"silent": "no"}), "silent"),
        (web.json_response(openapi_examples.JOB | {"secret": 1}), "secret"),
        (web.json_response({}, status=418), "418 is not described"),
        (web.Response(text="hello"), "text/plain"),
        (web.json_response({}, status=404), "application/json"),
        (web.json_response(openapi_examples.JOB, headers={"Retry-After": "1"}), "Retry-After is not described"),
    ],
)
def test_an_answer_that_is_not_as_described_is_noticed(answer: web.Response, complaint: str) -> None:
    assert bool(complaint) == bool(wrong(JOB, answer))
    assert complaint in str(wrong(JOB, answer))
