"""Completion for bash: one function for a program, which needs nothing but bash itself. Pure."""

from collections.abc import Iterable, Iterator

from handbook.commands import Command, Option

_FUNCTION = r"""# bash completion for {program} -*- shell-script -*-
{name}() {{
    local at={program} value='' word i words='' files=''
    COMPREPLY=()
    # which subcommand it is by now, and whether an option still waits for its value
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        [[ $word != = ]] || continue
        if [[ $value ]]; then
            value=''
            continue
        fi
        case "$at $word" in
{steps}
        esac
    done
    word=${{COMP_WORDS[COMP_CWORD]}}
    [[ $word != = ]] || word=''
    case "$at $value" in
{answers}
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    if [[ $files ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}}
complete -F {name} {program}
"""
_ANOTHER = r"""
# another program's words, from COMP_WORDS[$1] on; by its own completion where there is one
{name}_another() {{
    if declare -F _command_offset >/dev/null; then
        _command_offset "$1"
    elif ((COMP_CWORD == $1)); then
        mapfile -t COMPREPLY < <(compgen -c -- "${{COMP_WORDS[COMP_CWORD]}}")
    else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "${{COMP_WORDS[COMP_CWORD]}}")
    fi
}}
"""


def completion(command: Command) -> str:
    name = "_" + command.words[0].replace("-", "_")
    text = _FUNCTION.format(
        name=name,
        program=command.words[0],
        steps="\n".join(_steps(command, name)),
        answers="\n".join(_answers(command)),
    )
    wraps = any(each.wraps_another for each in command.all())
    return text + (_ANOTHER.format(name=name) if wraps else "")


def _steps(command: Command, name: str) -> Iterator[str]:
    """What a word that stands there already leads to."""
    for each in command.all():
        for subcommand in each.subcommands:
            yield f"            '{subcommand.path}') at='{subcommand.path}' ;;"
        if waiting := [f"'{each.path} {flag}'" for option in each.options if _waits(option) for flag in option.flags]:
            yield f"            {' | '.join(waiting)}) value=$word ;;"
        if each.wraps_another:
            yield f"            '{each.path} --') {name}_another $((i + 1)) && return ;;"


def _waits(option: Option) -> bool:
    """Whether what follows it is its value for certain."""
    return bool(option.value) and not option.value_optional


def _answers(command: Command) -> Iterator[str]:
    """What can stand next: behind a command, and behind each option that takes a value."""
    for each in command.all():
        yield f"        '{each.path} ') words='{' '.join(_next(each))}' ;;"
        for option in each.options:
            for flag in option.flags if option.is_file or option.choices else ():
                yield f"        '{each.path} {flag}') {_value(option.choices)} ;;"


def _next(command: Command) -> Iterator[str]:
    """Options by their long names: who asks wants to read what there is."""
    yield from (subcommand.words[-1] for subcommand in command.subcommands)
    yield from (choice for argument in command.arguments for choice in argument.choices)
    yield from (option.flags[-1] for option in command.options)
    if command.wraps_another:
        yield "--"


def _value(choices: Iterable[str]) -> str:
    return f"words='{' '.join(choices)}'" if choices else "files=yes"
