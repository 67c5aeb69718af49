"""Completion for zsh: a function for each command, on `_arguments`. Pure."""

import re
from collections.abc import Iterator

from handbook.commands import Command, Option

_GROUP = """{name}() {{
    local curcontext=$curcontext state line
    local -a subcommands=(
{commands}
    )
    _arguments -C {options} \\
        '1:command:->command' '*::argument:->argument'
    case $state in
        command) _describe command subcommands ;;
        argument)
            case $words[1] in
{calls}
            esac
            ;;
    esac
}}
"""


def completion(command: Command) -> str:
    functions = "\n".join(_function(each) for each in command.all())
    return f'#compdef {command.words[0]}\n\n{functions}\n{_name(command)} "$@"\n'


def _name(command: Command) -> str:
    return "_" + "_".join(command.words)


def _function(command: Command) -> str:
    options = " \\\n        ".join(_option(option) for option in command.options)
    if not command.subcommands:
        rest = "".join(f" \\\n        {_quoted(spec)}" for spec in _rest(command))
        return f"{_name(command)}() {{\n    _arguments -S {options}{rest}\n}}\n"
    named = [(subcommand.words[-1], subcommand) for subcommand in command.subcommands]
    return _GROUP.format(
        name=_name(command),
        options=options,
        commands="\n".join(f"        {_quoted(f'{word}:{each.summary}')}" for word, each in named),
        calls="\n".join(f"                {word}) {_name(each)} ;;" for word, each in named),
    )


def _rest(command: Command) -> Iterator[str]:
    for argument in command.arguments:
        yield f":{argument.name}:{_values(argument.choices, is_file=False)}"
    if command.wraps_another:
        yield "*:::command: _normal"


def _option(option: Option) -> str:
    colon = "::" if option.value_optional else ":"
    value = f"{colon}{option.value}:{_values(option.choices, option.is_file)}" if option.value else ""
    text = re.sub(r"([][:\\])", r"\\\1", " ".join(option.help.split()))
    others = f"({' '.join(option.flags)})" if len(option.flags) > 1 else ""
    return " ".join(_quoted(f"{others}{flag}[{text}]{value}") for flag in option.flags)


def _values(choices: tuple[str, ...], is_file: bool) -> str:
    return f"({' '.join(choices)})" if choices else "_files" if is_file else " "


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
