"""The hub's own description as a judge of its answers."""

import functools
import json
from typing import Any, cast

import jsonschema_rs
from aiohttp import web

from sha_daemon import openapi
from sha_daemon.http_acknowledgement import Acknowledgement

OWN_HEADERS = {
    "Telemetry-Result",
    "Telemetry-Seq",
    "Telemetry-Status",
    "Retry-After",
    "WWW-Authenticate",
    "Accept-Encoding",
}
"""What a client may act upon: none of these comes without being described."""

Key = tuple[str, str]


@functools.cache
def description() -> dict[str, Any]:
    return openapi.document()


def operations() -> dict[Key, dict[str, Any]]:
    """By method (upper case) and path."""
    return {
        (method.upper(), path): operation
        for path, methods in description()["paths"].items()
        for method, operation in methods.items()
    }


def key_of(request: web.Request) -> Key | None:
    """What was asked; None where no route is. HEAD is GET without a body."""
    resource = request.match_info.route.resource
    if resource is None:
        return None
    return "GET" if request.method == "HEAD" else request.method, resource.canonical


@functools.cache
def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    """Of a schema as JSON, references into the description included. Formats are checked."""
    whole = {"components": description()["components"]} | json.loads(schema)
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def errors(schema: dict[str, Any], value: object) -> list[str]:
    found = validator(json.dumps(schema)).iter_errors(value)
    return [f"{error.message} at {'/'.join(map(str, error.instance_path))}" for error in found]


def wrong(key: Key | None, answer: web.StreamResponse) -> list[str]:
    """Where this answer is not as described."""
    if key is None or key not in operations():
        return [] if answer.content_type == "application/problem+json" else [f"an answer from nowhere: {answer}"]
    said = operations()[key]["responses"].get(str(answer.status))
    if said is None:
        return [f"{key}: {answer.status} is not described"]
    return [f"{key} {answer.status}: {what}" for what in (*_body(said, answer), *_headers(said, answer))]


def _body(said: dict[str, Any], answer: web.StreamResponse) -> list[str]:
    content = said.get("content")
    if content is None:
        return [] if not answer.headers.get("Content-Type") or not _bytes(answer) else ["a body where none should be"]
    if answer.content_type not in content:
        return [f"it is {answer.content_type}, not one of {', '.join(content)}"]
    if not answer.content_type.endswith("json"):
        return []
    return errors(content[answer.content_type]["schema"], json.loads(_bytes(answer)))


def _bytes(answer: web.StreamResponse) -> bytes:
    return cast(bytes, cast(web.Response, answer).body or b"")


def _headers(said: dict[str, Any], answer: web.StreamResponse) -> list[str]:
    described: dict[str, Any] = said.get("headers", {})
    given = answer.fields if isinstance(answer, Acknowledgement) else answer.headers
    missing = [name for name, header in described.items() if header["required"] and name not in given]
    unknown = sorted((OWN_HEADERS & given.keys()) - described.keys())
    bad = [
        problem
        for name in described.keys() & given.keys()
        for problem in errors(described[name]["schema"], _parsed(given[name]))
    ]
    return [*(f"{name} is missing" for name in missing), *(f"{name} is not described" for name in unknown), *bad]


def _parsed(header: str) -> object:
    return int(header) if header.isdigit() else header


class Judge:
    """Looks at every answer on its way out."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.seen: set[tuple[Key | None, int]] = set()

    def watch(self, app: web.Application) -> None:
        @web.middleware
        async def judged(request: web.Request, handler: Any) -> web.StreamResponse:
            answer: web.StreamResponse = await handler(request)
            key = key_of(request)
            self.complaints += wrong(key, answer)
            self.seen.add((key, answer.status))
            return answer

        app.middlewares.insert(0, judged)
