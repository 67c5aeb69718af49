"""The man page of a program: written in `pages/`, where `@WORD@` stands for what its parser says."""

import re
from collections.abc import Iterator
from pathlib import Path

from handbook.commands import Argument, Command, Option
from handbook.programs import Program
from handbook.roff import bold, italic, items, paragraphs, plain, prose
from telemetry_common import __version__

PAGES = Path(__file__).parent / "pages"
_TITLE = re.compile(r"^(exit codes|exit status|environment|examples):[ \n]", re.M)


def page(program: Program, command: Command, date: str) -> str:
    written = (PAGES / f"{program.name}.{program.section}").read_text("utf-8")
    return filled(
        written,
        {
            "HEAD": head(program.name, program.section, date),
            "SUMMARY": f"{plain(program.name)} \\- {plain(program.summary)}",
            "SYNOPSIS": "\n.br\n".join(synopsis(leaf) for leaf in command.leaves()),
            "OPTIONS": items(map(option, command.general_options())),
            "COMMANDS": "\n".join(_commands(command)),
            "NOTES": "\n".join(_notes(command, ".SH {}")),
        },
    )


def head(name: str, section: int, date: str) -> str:
    return f'.TH {plain(name.upper())} {section} "{date}" "backup\\-telemetry {plain(__version__)}" "Backup telemetry"'


def filled(written: str, words: dict[str, str]) -> str:
    """Raises KeyError for a word that nobody knows."""
    return re.sub(r"@([A-Z]+)@", lambda found: words[found[1]], written)


def synopsis(command: Command) -> str:
    if command.usage:
        words = " ".join(command.words)
        return bold(words) + plain(command.usage.removeprefix(words))
    required = [_flag(given, given.flags[0]) for given in command.options if given.required]
    parts = [bold(" ".join(command.words)), "[options]", *required, *map(_argument_word, command.arguments)]
    return " ".join(parts)


def option(given: Option) -> tuple[str, str]:
    names = ", ".join(_flag(given, flag) for flag in given.flags)
    shown_choices = given.choices if given.value != "|".join(given.choices) else ()
    choices = f" One of {', '.join(map(bold, shown_choices))}." if shown_choices else ""
    return names, prose(_sentence(given.help)) + choices


def _flag(given: Option, flag: str) -> str:
    if not given.value:
        return bold(flag)
    value = _choice_words(given.choices) or italic(given.value)
    return f"{bold(flag)} [{value}]" if given.value_optional else f"{bold(flag)} {value}"


def _choice_words(choices: tuple[str, ...]) -> str:
    return "|".join(map(bold, choices))


def _argument_word(argument: Argument) -> str:
    word = _choice_words(argument.choices) or italic(argument.name)
    return f"[{word}]" if argument.optional else word


def _commands(command: Command) -> Iterator[str]:
    general = command.general_options()
    for leaf in command.leaves():
        yield f".SS {plain(' '.join(leaf.words[1:]))}"
        yield f"{synopsis(leaf)}\n.PP"
        yield paragraphs(leaf.description or _sentence(leaf.summary))
        explained = [(_argument_word(each), prose(_sentence(each.help))) for each in leaf.arguments if each.help]
        yield items([*explained, *(option(given) for given in leaf.options if given not in general)])
        yield from _notes(leaf, ".PP\n\\fB{}\\fR\n.PP")


def _notes(command: Command, heading: str) -> Iterator[str]:
    """The epilog. Its parts that have a title (`examples:`) become parts of the page."""
    before, *parts = _TITLE.split(command.epilog)
    titled = [("notes", before), *zip(parts[::2], parts[1::2], strict=True)]
    for title, text in titled:
        if text.strip():
            yield heading.format(title.replace("codes", "status").upper())
            yield paragraphs(text)


def _sentence(text: str) -> str:
    """Help texts begin in lower case and end without a stop."""
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?" else ".")
