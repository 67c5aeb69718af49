"""What the description of the hub is made of: operations, their parameters and their answers. Values only."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from sha_daemon.replies import JSON, PROBLEM

Method = Literal["get", "post"]
Schema = Mapping[str, Any]


class Parameter(Struct, frozen=True, kw_only=True):
    """A path parameter, unless `place` says otherwise; only those of a path are required."""

    name: str
    says: str
    schema: Schema
    example: str
    place: Literal["path", "query", "header"] = "path"

    def described(self) -> dict[str, Any]:
        by_comma = {"style": "form", "explode": False} if self.schema.get("type") == "array" else {}
        return by_comma | {
            "name": self.name,
            "in": self.place,
            "required": self.place == "path",
            "description": self.says,
            "schema": self.schema,
            "example": self.example,
        }


class Header(Struct, frozen=True):
    """A header of an answer; `always` there, or only as the words say."""

    says: str
    schema: Schema
    always: bool = False

    def described(self) -> dict[str, Any]:
        return {"description": self.says, "required": self.always, "schema": self.schema}


class Answer(Struct, frozen=True, kw_only=True):
    """`media` is None for an answer without a body."""

    says: str
    media: str | None = None
    schema: Schema | None = None
    example: Any = None
    headers: Mapping[str, Header] = {}

    def described(self) -> dict[str, Any]:
        said: dict[str, Any] = {"description": self.says}
        if self.headers:
            said["headers"] = {name: header.described() for name, header in self.headers.items()}
        if self.media is not None:
            content = {} if self.schema is None else {"schema": self.schema}
            said["content"] = {self.media: content | ({} if self.example is None else {"example": self.example})}
        return said


class Operation(Struct, frozen=True, kw_only=True):
    """One route. `answers` are those of its own; what any request can meet is added to them."""

    method: Method
    path: str
    name: str
    group: str
    title: str
    says: str
    answers: Mapping[int, Answer]
    parameters: tuple[Parameter, ...] = ()
    body: Schema | None = None
    body_example: Any = None


def ref(schema: str) -> Schema:
    return {"$ref": f"#/components/schemas/{schema}"}


def shape(schema: str, says: str, example: Any, **headers: Header) -> Answer:
    """A JSON answer of one of the schemas."""
    return Answer(says=says, media=JSON, schema=ref(schema), example=example, headers=headers)


def problem(says: str, **headers: Header) -> Answer:
    """Header names are given with `_` for `-`."""
    named = {name.replace("_", "-"): header for name, header in headers.items()}
    return Answer(says=says, media=PROBLEM, schema=ref("ProblemDetails"), headers=named)
