"""Completion in real shells: what Tab offers is what the programs take."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from handbook.__main__ import main as write_all
from tests.support import zsh

Shell = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("handbook")
    write_all(directory, 1_790_000_000)
    return directory


@pytest.fixture
def bash(written: Path) -> Shell:
    """As bash itself calls a completion: the line in words, `=` being a word of its own."""

    def offered(line: str) -> list[str]:
        words = [
            part for word in line.split(" ") for part in word.replace("=", "\0=\0").split("\0") if part or not word
        ]
        function = "_" + words[0].replace("-", "_")
        script = f'. "$1"; COMP_WORDS=("${{@:2}}"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); {function}'
        script += '; printf "%s\\n" "${COMPREPLY[@]}"'
        command = ["bash", "--norc", "-c", script, "bash", str(written / "bash" / words[0]), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/etc")
        assert done.stderr == ""
        return done.stdout.split()

    return offered


@pytest.fixture
def fish(written: Path) -> Shell:
    def offered(line: str) -> list[str]:
        script = "source $argv[1]; complete -C $argv[2]"
        file = written / "fish" / f"{line.split()[0]}.fish"
        command = ["fish", "--no-config", "-c", script, str(file), line]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/etc")
        return [found.split("\t")[0] for found in done.stdout.splitlines()]

    return offered


CASES = {
    "shactl job ": ["show", "create"],
    "shactl --config /x job ": ["show", "create"],
    "shactl job cr": ["create"],
    "shactl job create --type ": ["full", "incremental", "differential"],
    "shactl job create --type=": ["full", "incremental", "differential"],
    "shactl job create --type inc": ["incremental"],
    "shactl token create --right r": ["report", "read"],
    "sbcctl dead-letters l": ["list"],
    "sbc-report run --tim": ["--timeout"],
    "sbc-report run --timeout 5 --so": ["--socket"],
    "sbc-report done --percent": [],
    "sha-daemon --ch": ["--check"],
    "sbc-daemon --show": ["--show-config"],
    "sbc-daemon --config /etc/host": ["/etc/hosts", "/etc/hostname"],
    "sbc-report run --job job1 -- mktem": ["mktemp"],
    "sbc-report run --job job1 -- cat /etc/host": ["/etc/hosts", "/etc/hostname"],
}


@pytest.mark.parametrize("line", CASES)
def test_bash_offers_what_can_stand_next(line: str, bash: Shell) -> None:
    assert_offered(bash(line), line)


@pytest.mark.parametrize("line", [line for line in CASES if not line.endswith("=")])
def test_fish_offers_what_can_stand_next(line: str, fish: Shell) -> None:
    assert_offered(fish(line), line)


def assert_offered(offered: list[str], line: str) -> None:
    """What is expected, and nothing else but more files, or options where none was begun."""
    expected = set(CASES[line])
    assert expected <= set(offered)
    if not any(word.startswith("/") for word in expected):
        begun = line.split(" ")[-1].startswith("-")
        assert {word for word in offered if begun or not word.startswith("-")} == expected


def test_bash_offers_no_option_of_another_command(bash: Shell) -> None:
    assert "--timeout" in bash("sbc-report run --")
    assert "--timeout" not in bash("sbc-report start --")


def test_bash_gives_what_follows_the_dashes_to_that_programs_own_completion(written: Path) -> None:
    script = f"""
        _command_offset() {{ echo "$1 of ${{COMP_WORDS[*]}}"; }}
        . {written}/bash/sbc-report
        COMP_WORDS=(sbc-report run --job x -- nbdcopy --req); COMP_CWORD=6
        _sbc_report
    """
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "5 of sbc-report run --job x -- nbdcopy --req\n"


ZSH_CASES = {
    "shactl job ": ["create", "show"],
    "shactl job create --type ": ["differential", "full", "incremental"],
    "sbc-report run --t": ["--timeout", "--total-bytes"],
    "sbc-daemon --config /etc/host": ["hostname", "hosts"],
    "sbc-report run --job job1 -- hostnam": ["hostname"],
}


@pytest.mark.parametrize("line", ZSH_CASES)
def test_zsh_offers_what_can_stand_next(line: str, written: Path) -> None:
    shown = zsh.completions(written / "zsh", line, ZSH_CASES[line][-1])
    for word in ZSH_CASES[line]:
        assert word in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_no_completion_has_a_fault_in_its_syntax(shell: str, written: Path) -> None:
    for file in sorted((written / shell).iterdir()):
        done = subprocess.run([shell, "-n", str(file)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), file.name
