"""What can be known of the packages without building them."""

import re
import tomllib
from pathlib import Path

from tests.test_arrows import files, imports, top

ROOT = Path(__file__).resolve().parent.parent
RULES = (ROOT / "packaging" / "debian" / "rules").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MODULES = {"prometheus-client": "prometheus_client"}


def word(name: str) -> list[str]:
    """The value of a variable in the rules."""
    [value] = re.findall(rf"^{name} := (.+)$", RULES, re.M)
    return str(value).split()


def imported(*packages: str) -> set[str]:
    return {top(module) for package in packages for file in files(package) for module in imports(file)}


def test_a_library_that_is_the_hubs_only_is_used_by_the_hub_alone() -> None:
    hub_only = {MODULES.get(name, name) for name in word("HUB_ONLY")}
    assert hub_only <= imported("sha_daemon")
    assert hub_only.isdisjoint(imported("sbc_daemon", "telemetry_common"))


def test_every_other_library_is_used_by_the_sidecar() -> None:
    """Else it would carry what it does not need."""
    names = {re.split(r"[<>=]", dependency)[0] for dependency in PROJECT["dependencies"]} - set(word("HUB_ONLY"))
    assert names <= imported("sbc_daemon", "telemetry_common")


def test_every_program_has_a_launcher_that_starts_what_the_project_says() -> None:
    launchers = re.findall(r"\$\(call launcher,[a-z-]+,([a-z-]+),([a-z_.]+)\)", RULES)
    assert {command: f"{module}:main" for command, module in launchers} == PROJECT["scripts"]


def test_what_is_built_from_source_is_the_same_for_the_wheelhouse() -> None:
    house = (ROOT / "packaging" / "wheelhouse").read_text("utf-8")
    assert re.findall(r"/\^(\w+)==/", house) == word("FROM_SOURCE")
    assert re.findall(r"for python in (.+); do", house)[0].split() == word("PYTHONS")


def test_no_registry_is_named() -> None:
    """Where packages come from is whoever builds them to say."""
    for file in (path for path in (ROOT / "packaging").rglob("*") if path.is_file() and path.suffix != ".toml"):
        assert not re.search(r"https?://(?!www\.debian\.org/doc)|--index-url", file.read_text("utf-8")), file
