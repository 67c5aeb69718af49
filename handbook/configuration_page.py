"""The man page of a configuration file: every key with its type, limits, default, variable and reason."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo

from handbook.man_page import PAGES, filled, head
from handbook.programs import Configuration
from handbook.roff import bold, plain, prose
from telemetry_common.settings import toml

_LIMITS = (("gt", "more than {}"), ("ge", "at least {}"), ("lt", "less than {}"), ("le", "at most {}"))
_LENGTHS = (("min_length", "at least {} "), ("max_length", "at most {} "))


def page(configuration: Configuration, date: str) -> str:
    written = (PAGES / "configuration.5").read_text("utf-8")
    return filled(
        written,
        {
            "HEAD": head(configuration.name, 5, date),
            "NAME": plain(configuration.name),
            "DAEMON": plain(configuration.daemon),
            "DIRECTORY": f"/etc/{plain(configuration.daemon)}",
            "PREFIX": configuration.prefix,
            "KEYS": "\n".join(_keys(configuration)),
        },
    )


def _keys(configuration: Configuration) -> Iterator[str]:
    for section in msgspec.structs.fields(configuration.kind):
        yield f".SS [{section.encode_name}]"
        for field in msgspec.structs.fields(section.type):
            variable = f"{configuration.prefix}_{section.encode_name}_{field.encode_name}".upper()
            yield f".TP\n{bold(field.encode_name)} = {plain(toml(field.default))}"
            yield f"{prose(_description(field))}\n.br\n{plain(_kind(field))}; {bold(variable)}"


def _meta(field: FieldInfo) -> list[msgspec.Meta]:
    return [part for part in getattr(field.type, "__metadata__", ()) if isinstance(part, msgspec.Meta)]


def _description(field: FieldInfo) -> str:
    return next(meta.description for meta in _meta(field) if meta.description)


def _kind(field: FieldInfo) -> str:
    """`Number, more than 0, at most 600`."""
    bare = get_args(field.type)[0]
    counted = "items" if get_origin(bare) is tuple else "characters"
    limits = [
        text.format(getattr(meta, name))
        for meta in _meta(field)
        for name, text in (*_LIMITS, *((name, text + counted) for name, text in _LENGTHS))
        if getattr(meta, name) is not None
    ]
    return ", ".join([_type(bare), *limits])


def _type(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "One of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return "List of text"
    return {bool: "true or false", int: "Whole number", float: "Number", str: "Text"}[kind]
