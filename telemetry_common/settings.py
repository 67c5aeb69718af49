"""Settings from TOML files, drop-ins and the environment into typed sections. Strict: a typo stops the start.

A daemon's settings are one msgspec Struct of sections, each a Struct whose fields are
`Annotated[type, about("...", ge=1)]` with a default. The same descriptions become the shipped file's
comments (`template`), so the code is the documentation.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

T = TypeVar("T", bound=msgspec.Struct)
_ALIKE = 0.85
"""How near a variable must be to one of ours to be a slip of the pen: other programs' may begin as ours do."""
_UNKNOWN = re.compile(r"unknown key `(.+)`")


class SettingsError(Exception):
    """Fit to be shown as it is: names the file or variable, the key, and what was expected."""


def about(text: str, **limits: Any) -> msgspec.Meta:
    """What a key is for, and its limits: the comment of the shipped file and the check at the start, in one place."""
    return msgspec.Meta(description=text, **limits)


def load(
    kind: type[T], path: Path, prefix: str, environ: Mapping[str, str] = os.environ, *, must_exist: bool = False
) -> T:
    """The effective settings: the file at `path`, then `conf.d/*.toml` beside it by name, then the environment.

    A variable is `PREFIX_SECTION_KEY` (`SHA_DATABASE_NAME`); a list has commas between its items. A missing main file
    means defaults (the packages ship one; a bare run needs none), unless it was asked for by name (`must_exist`).
    Raises SettingsError.
    """
    if must_exist and not path.exists():
        raise SettingsError(f"cannot read {path}: there is no such file")
    merged: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    for source in [path, *sorted((path.parent / "conf.d").glob("*.toml"))]:
        _merge(merged, origins, _read(source), str(source))
    _merge(merged, origins, _from_environment(kind, prefix, environ), "the environment")
    try:
        return msgspec.convert(merged, kind, strict=False)
    except msgspec.ValidationError as error:
        problem = _explain(str(error), kind)
        raise SettingsError(f"cannot use the configuration: {problem} (from {_origin(problem, origins)})") from None


def _read(source: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(source.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {source}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"cannot read {source}: not valid TOML: {error}") from None


def _merge(into: dict[str, dict[str, Any]], origins: dict[str, str], more: Mapping[str, Any], source: str) -> None:
    """`origins`: by section, and by `section.key`, what said the last word on it."""
    for section, values in more.items():
        if not isinstance(values, dict):
            raise SettingsError(f"cannot use {source}: `{section}` stands outside of a [section]")
        into.setdefault(section, {}).update(values)
        origins |= dict.fromkeys([section, *(f"{section}.{key}" for key in values)], source)


def _origin(problem: str, origins: Mapping[str, str]) -> str:
    """Who said what the problem is with; all who spoke of its section where it is with several keys of it."""
    where, _, text = problem.partition(": ")
    if unknown := _UNKNOWN.search(problem):
        section = "" if problem.startswith("unknown") else f"{where}."
        return origins.get(f"{section}{unknown[1]}", "the configuration")
    if "." in where:
        return origins.get(where.partition("[")[0], "the configuration")
    named = {origins[key] for key in (f"{where}.{name}" for name in re.findall(r"`(\w+)`", text)) if key in origins}
    return ", ".join(sorted(named)) or origins.get(where, "the configuration")


def _from_environment(kind: type[msgspec.Struct], prefix: str, environ: Mapping[str, str]) -> dict[str, Any]:
    known = {f"{prefix}_{s}_{k}".upper(): (s, k, field) for s, k, field in _keys(kind)}
    ours = tuple({f"{prefix}_{section}_".upper() for section, _, _ in known.values()})
    found: dict[str, Any] = {}
    for variable, value in environ.items():
        if variable in known:
            section, key, field = known[variable]
            found.setdefault(section, {})[key] = _listed(value) if _is_list(field) else value
        elif variable.startswith(ours) or (variable.startswith(f"{prefix}_") and _is_slip(variable, known)):
            raise SettingsError(f"cannot use the environment: unknown variable {variable}{_nearest(variable, known)}")
    return found


def _is_slip(variable: str, known: Iterable[str]) -> bool:
    return bool(difflib.get_close_matches(variable, list(known), n=1, cutoff=_ALIKE))


def _is_list(field: msgspec.structs.FieldInfo) -> bool:
    return isinstance(field.default, tuple)


def _listed(value: str) -> list[str]:
    """A list in a variable: its items with commas between."""
    return [item.strip() for item in value.split(",") if item.strip()]


def _keys(kind: type[msgspec.Struct]) -> Iterable[tuple[str, str, msgspec.structs.FieldInfo]]:
    for section in msgspec.structs.fields(kind):
        for field in msgspec.structs.fields(section.type):
            yield section.encode_name, field.encode_name, field


def _explain(problem: str, kind: type[msgspec.Struct]) -> str:
    """`Expected int ... - at `$.listen.port`` -> `listen.port: Expected int ...`."""
    text, _, where = problem.partition(" - at `$.")
    where = where.rstrip("`")
    text = text.replace("Object contains unknown field", "unknown key")
    if unknown := _UNKNOWN.search(text):
        text += _nearest(unknown[1], _names(kind, where))
    if text.startswith("Invalid enum value"):
        text += f", expected one of {', '.join(_choices(kind, where))}"
    return f"{where}: {text}" if where else text


def _names(kind: type[msgspec.Struct], section: str) -> list[str]:
    """The keys of a section; the sections where `section` is empty."""
    if not section:
        return [field.encode_name for field in msgspec.structs.fields(kind)]
    return [key for of, key, _ in _keys(kind) if of == section]


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _choices(kind: type[msgspec.Struct], where: str) -> list[str]:
    """What a key with a fixed set of values takes: msgspec names the one that it does not take only."""
    return next(
        [str(choice) for part in get_args(field.type) for choice in get_args(part)]
        for section, key, field in _keys(kind)
        if f"{section}.{key}" == where
    )


def template(kind: type[msgspec.Struct]) -> str:
    """The shipped configuration file: every key, commented out at its default, with its description."""
    lines: list[str] = []
    last = ""
    for section, key, field in _keys(kind):
        if section != last:
            lines += ["", f"[{section}]"] if last else [f"[{section}]"]
            last = section
        lines += [f"# {line}" for line in _description(field).splitlines()]
        lines.append(f"#{key} = {toml(field.default)}")
    return "\n".join(lines) + "\n"


def shown(settings: msgspec.Struct) -> str:
    """The effective values as TOML. A secret is only ever the name of a file, so there is none to mask."""
    lines: list[str] = []
    for section in msgspec.structs.fields(settings):
        lines.append(f"[{section.encode_name}]")
        values = getattr(settings, section.name)
        lines += [f"{f.encode_name} = {toml(getattr(values, f.name))}" for f in msgspec.structs.fields(values)]
        lines.append("")
    return "\n".join(lines)


def differing(one: T, other: T) -> list[str]:
    """The keys (`section.key`) whose values are not the same in both."""
    return [
        f"{section}.{key}"
        for section, key, field in _keys(type(one))
        if getattr(getattr(one, section), field.name) != getattr(getattr(other, section), field.name)
    ]


def _description(field: msgspec.structs.FieldInfo) -> str:
    meta = getattr(field.type, "__metadata__", ())
    return next((m.description for m in meta if isinstance(m, msgspec.Meta) and m.description), "")


def toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return msgspec.json.encode(str(value)).decode()
