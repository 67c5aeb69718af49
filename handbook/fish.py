"""Completion for fish: a line for each subcommand and each option. Pure."""

from collections.abc import Iterator

from handbook.commands import Command, Option

_ANOTHER = r"""# behind the dashes: another program's words, by its own completion
function {name}_another
    set -l words (commandline -opc) (commandline -ct)
    set -l dashes (contains -i -- -- $words)
    complete -C (string join ' ' -- $words[(math $dashes + 1)..-1])
end
complete -c {program} -n 'contains -- -- (commandline -opc)' -a '({name}_another)'
"""


def completion(command: Command) -> str:
    lines = [f"complete -c {command.words[0]} -f"]
    if any(each.wraps_another for each in command.all()):
        lines.append(_ANOTHER.format(name="__fish_" + command.words[0].replace("-", "_"), program=command.words[0]))
    for each in command.all():
        lines += _lines(each)
    return "\n".join(lines) + "\n"


def _lines(command: Command) -> Iterator[str]:
    here = f"complete -c {command.words[0]} -n {_quoted(_condition(command))}"
    for subcommand in command.subcommands:
        yield f"{here} -a {subcommand.words[-1]} -d {_quoted(subcommand.summary)}"
    for argument in command.arguments:
        if argument.choices:
            yield f"{here} -a {_quoted(' '.join(argument.choices))}"
    for option in command.options:
        yield f"{here} {_option(option)}"
    if command.wraps_another:
        yield f"{here} -a -- -d 'the command'"


def _condition(command: Command) -> str:
    """All words of the command are there, and none of a subcommand's."""
    seen = ["not contains -- -- (commandline -opc)"] if command.wraps_another else []
    seen += [f"__fish_seen_subcommand_from {word}" for word in command.words[1:]]
    below = " ".join(subcommand.words[-1] for subcommand in command.subcommands)
    return "; and ".join([*seen, *([f"not __fish_seen_subcommand_from {below}"] if below else [])]) or "true"


def _option(option: Option) -> str:
    names = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
    value = ""
    if option.is_file:
        value = " -r -F"
    elif option.value and not option.value_optional:
        value = f" -x -a {_quoted(' '.join(option.choices))}" if option.choices else " -x"
    return f"{names}{value}" + (f" -d {_quoted(option.help)}" if option.help else "")


def _quoted(text: str) -> str:
    return "'" + " ".join(text.split()).replace("\\", "\\\\").replace("'", "\\'") + "'"
