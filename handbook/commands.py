"""A parser of `argparse` as a tree of commands: what is said of each, and what can stand behind it. Pure."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Option:
    """`value` is the word for what follows it, empty for a switch; `value_optional`: it may be left out. `is_file`: a
    file's name is expected."""

    flags: tuple[str, ...]
    value: str
    value_optional: bool
    help: str
    choices: tuple[str, ...]
    is_file: bool
    required: bool


@dataclass(frozen=True)
class Argument:
    name: str
    help: str
    choices: tuple[str, ...]
    optional: bool


@dataclass(frozen=True)
class Command:
    """`words` are what is typed: the program, then the subcommands."""

    words: tuple[str, ...]
    summary: str
    description: str
    epilog: str
    usage: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...]
    subcommands: tuple["Command", ...]

    @property
    def path(self) -> str:
        return " ".join(self.words)

    @property
    def wraps_another(self) -> bool:
        """`run ... -- COMMAND`: what stands behind the dashes is a program with words of its own."""
        return "-- COMMAND" in self.usage

    def all(self) -> Iterator["Command"]:
        """Itself and all below."""
        yield self
        for subcommand in self.subcommands:
            yield from subcommand.all()

    def leaves(self) -> Iterator["Command"]:
        """The commands that do something: those without subcommands."""
        return (command for command in self.all() if not command.subcommands)

    def general_options(self) -> tuple[Option, ...]:
        """Those of the program itself, and those that each of its commands takes."""
        first, *others = self.leaves()
        everywhere = [option for option in first.options if all(option in other.options for other in others)]
        return tuple(dict.fromkeys([*self.options, *everywhere]))


def read(parser: argparse.ArgumentParser, summary: str, words: tuple[str, ...] = ()) -> Command:
    words = words or (parser.prog,)
    actions = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    return Command(
        words=words,
        summary=summary,
        description=(parser.description or "").strip("\n"),
        epilog=(parser.epilog or "").strip("\n"),
        usage=parser.usage or "",
        options=tuple(_option(parser, action) for action in actions if action.option_strings),
        arguments=tuple(_argument(parser, action) for action in actions if _is_argument(action)),
        subcommands=tuple(_subcommands(parser, words)),
    )


def _subcommands(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[Command]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, subparser in action.choices.items():
                yield read(subparser, summaries.get(name, ""), (*words, name))


def _is_argument(action: argparse.Action) -> bool:
    return not action.option_strings and not isinstance(action, argparse._SubParsersAction)


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> Option:
    takes_value = action.nargs != 0
    return Option(
        flags=tuple(action.option_strings),
        value=_word(action) if takes_value else "",
        value_optional=action.nargs == argparse.OPTIONAL,
        help=_help(parser, action),
        choices=_choices(action) if takes_value else (),
        is_file=takes_value and _is_file(action),
        required=action.required,
    )


def _argument(parser: argparse.ArgumentParser, action: argparse.Action) -> Argument:
    optional = action.nargs in (argparse.OPTIONAL, argparse.ZERO_OR_MORE)
    return Argument(_word(action), _help(parser, action), _choices(action), optional)


def _word(action: argparse.Action) -> str:
    if action.metavar is not None:
        return action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar)
    return "|".join(_choices(action)) or action.dest.upper()


def _choices(action: argparse.Action) -> tuple[str, ...]:
    return tuple(map(str, action.choices or ()))


def _is_file(action: argparse.Action) -> bool:
    return action.type is Path or action.metavar in ("FILE", "PATH")


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """With the default in it, where it asks for that."""
    return parser._get_formatter()._expand_help(action) if action.help else ""
