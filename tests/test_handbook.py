"""Man pages and Debian's changelog: what they tell is what the programs do."""

import os
import re
import subprocess
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from handbook import changelog, configuration_page, man_page
from handbook.commands import Command
from handbook.licences import main as print_licences
from handbook.programs import CONFIGURATIONS, PROGRAMS, Configuration, Program

ROOT = Path(__file__).resolve().parent.parent
DATE = "2026-01-02"
ELSEWHERE = {"nbdcopy(1)", "qemu-img(1)", "systemd.exec(5)"}
OURS = {f"{program.name}({program.section})" for program in PROGRAMS} | {f"{each.name}(5)" for each in CONFIGURATIONS}
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")

programs = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
configurations = pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda each: each.name)


def shown(tmp_path: Path, source: str) -> str:
    """The page as `man` shows it, on lines that are long enough for it. It complains of nothing."""
    (tmp_path / "page").write_text(source, "utf-8")
    wide = {**os.environ, "MANWIDTH": "1000", "LC_ALL": "C.UTF-8"}
    command = ["man", "--warnings=w", "--nh", "--nj", "-l", str(tmp_path / "page")]
    done = subprocess.run(command, env=wide, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def sections(page: str) -> dict[str, str]:
    titles = re.findall(r"^[A-Z][A-Z ]+$", page, re.M)
    assert len(titles) == len(set(titles)), "a section stands there twice"
    parts = re.split(r"^[A-Z][A-Z ]+$", page, flags=re.M)[1:]
    return dict(zip(titles, parts, strict=True))


def helps(program: Program) -> str:
    """All that `--help` of the program and of each of its subcommands says."""
    parsers = [program.parser()]
    for parser in parsers:
        choices = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
        parsers += [subparser for named in choices for subparser in named.values()]
    return "\n".join(parser.format_help() for parser in parsers)


@programs
def test_a_man_page_has_every_option_that_help_has_and_no_other(program: Program, tmp_path: Path) -> None:
    page = sections(shown(tmp_path, man_page.page(program, program.command(), DATE)))
    told = "".join(page.get(title, "") for title in ("OPTIONS", "COMMANDS", "NOTES", "EXIT STATUS", "EXAMPLES"))
    assert set(OPTION.findall(told)) == set(OPTION.findall(helps(program)))


@programs
def test_a_man_page_shows_how_each_command_is_called(program: Program, tmp_path: Path) -> None:
    command = program.command()
    page = sections(shown(tmp_path, man_page.page(program, command, DATE)))
    calls = [line.strip() for line in page["SYNOPSIS"].splitlines() if line.strip()]
    assert [re.split(r" [\[(]| -- ", call)[0] for call in calls] == [leaf.path for leaf in command.leaves()]
    if command.subcommands:
        headings = re.findall(r"^   (\S.*)$", page["COMMANDS"], re.M)
        assert headings == [" ".join(leaf.words[1:]) for leaf in command.leaves()]


def test_what_must_be_given_stands_in_the_synopsis() -> None:
    shactl = next(program for program in PROGRAMS if program.name == "shactl").command()
    calls = {leaf.path: man_page.synopsis(leaf) for leaf in shactl.leaves()}
    bare = re.sub(r"\\f[BIR]|\\(?=-)", "", calls["shactl job create"])
    assert bare == "shactl job create [options] --vm NAME ID"


def test_an_option_of_every_command_is_told_once() -> None:
    sbc_report = next(program for program in PROGRAMS if program.name == "sbc-report").command()
    page = man_page.page(Program("sbc-report", 1, "", "", lambda: pytest.fail("not asked")), sbc_report, DATE)
    assert page.count("\\fB\\-\\-job\\fR \\fIID\\fR\n") == 1


def test_every_page_that_is_referred_to_is_there() -> None:
    """By the other pages, and by the units: `systemctl help`."""
    pages = [*(ROOT / "handbook" / "pages").iterdir()]
    written = "".join(page.read_text("utf-8").replace("\\-", "-") for page in pages)
    referred = {f"{name}({section})" for name, section in re.findall(r"^\.BR (\S+) \((\d)\)", written, re.M)}
    units = "".join(unit.read_text("utf-8") for unit in (ROOT / "systemd").iterdir() if unit.is_file())
    from_units = set(re.findall(r"^Documentation=man:(\S+)$", units, re.M))
    assert from_units
    assert {name for name in referred | from_units if "@" not in name} <= OURS | ELSEWHERE


@configurations
def test_a_configuration_page_has_the_keys_of_the_shipped_file_and_no_other(
    configuration: Configuration, tmp_path: Path
) -> None:
    page = sections(shown(tmp_path, configuration_page.page(configuration, DATE)))
    shipped = (ROOT / "packaging" / f"{configuration.daemon}.toml").read_text("utf-8")
    assert re.findall(r"^ +(\w+ = .*)$", page["KEYS"], re.M) == re.findall(r"^#(\w+ = .*)$", shipped, re.M)
    assert re.findall(r"^ +(\[\w+\])$", page["KEYS"], re.M) == re.findall(r"^(\[\w+\])$", shipped, re.M)


@configurations
def test_a_configuration_page_names_the_variable_of_each_key(configuration: Configuration, tmp_path: Path) -> None:
    page = sections(shown(tmp_path, configuration_page.page(configuration, DATE)))
    known = [
        f"{configuration.prefix}_{section.encode_name}_{key.encode_name}".upper()
        for section in msgspec.structs.fields(configuration.kind)
        for key in msgspec.structs.fields(section.type)
    ]
    assert re.findall(rf"; ({configuration.prefix}_\w+)$", page["KEYS"], re.M) == known


def test_every_program_that_is_installed_has_a_page_and_completions() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert sorted(scripts) == sorted(program.name for program in PROGRAMS)


CHANGES = """# Changelog

## [Unreleased]

### Added

- `a`: first
  and more.
- b

## [0.1.0] - 2026-01-05

- c

[links]: elsewhere
"""


def test_what_is_not_released_yet_is_of_the_current_version() -> None:
    built = datetime(2026, 2, 3, tzinfo=UTC)
    entries = list(changelog.entries(CHANGES, "0.2.0", "+1", built, "M <m@example.org>"))
    assert entries[0].splitlines() == [
        "backup-telemetry (0.2.0+1) unstable; urgency=medium",
        "",
        "  * a: first and more.",
        "  * b",
        "",
        " -- M <m@example.org>  Tue, 03 Feb 2026 00:00:00 +0000",
    ]
    assert entries[1].startswith("backup-telemetry (0.1.0) unstable")
    assert "Mon, 05 Jan 2026" in entries[1]


def test_a_section_that_says_nothing_yet_is_left_out() -> None:
    text = CHANGES.replace("- `a`: first\n  and more.\n- b\n", "")
    assert len(list(changelog.entries(text, "0.1.0", "", datetime.now(UTC), "M <m@example.org>"))) == 1


def test_a_library_without_a_licence_cannot_be_shipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, licence in (("one", "licenses/LICENSE.txt"), ("two", "")):
        info = tmp_path / f"{name}-1.0.dist-info"
        (info / "licenses").mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
        if licence:
            (info / licence).write_text(f"You may use {name}.\n")
    assert print_licences(tmp_path) == 1
    said = capsys.readouterr()
    assert "==== one 1.0\n\nYou may use one.\n" in said.out
    assert said.err == "licences: cannot find the licence of two 1.0\n"


def test_a_command_knows_what_all_of_its_subcommands_take() -> None:
    commands: dict[str, Command] = {program.name: program.command() for program in PROGRAMS}
    general = {flag for option in commands["sbc-report"].general_options() for flag in option.flags}
    assert general == {"-h", "--help", "--version", "--job", "--socket"}
