"""Who may import whom. The architecture is these arrows; a file that breaks one is named."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("telemetry_common", "sha_daemon", "sbc_daemon")


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, at any depth: `from a import b` counts as `a.b`, which may be a module."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def top(module: str) -> str:
    return module.split(".")[0]


def importers(module: str) -> set[str]:
    """Of all our files, those that import a module of this name, relative to the project."""
    found = [file for package in PACKAGES for file in files(package) if module in map(top, imports(file))]
    return {str(file.relative_to(ROOT)) for file in found}


def imported_by(file: Path) -> set[str]:
    """Every module that importing `file` brings in, our own followed to the end."""
    seen: set[str] = set()
    waiting = [file]
    visited: set[Path] = set()
    while waiting:
        if (current := waiting.pop()) in visited:
            continue
        visited.add(current)
        for module in imports(current):
            seen.add(module)
            waiting += of_ours(module)
    return seen


def of_ours(module: str) -> list[Path]:
    """The files that importing `module` runs, if it is one of ours."""
    if top(module) not in PACKAGES:
        return []
    place = ROOT.joinpath(*module.split("."))
    candidates = [place.with_suffix(".py"), place.parent.with_suffix(".py"), place / "__init__.py"]
    return [candidate for candidate in candidates if candidate.is_file()]


@pytest.mark.parametrize(
    ("package", "never"),
    [
        ("telemetry_common", {"sha_daemon", "sbc_daemon"}),
        ("sha_daemon", {"sbc_daemon"}),
        ("sbc_daemon", {"sha_daemon"}),
    ],
)
def test_what_is_shared_knows_no_daemon_and_no_daemon_the_other(package: str, never: set[str]) -> None:
    for file in files(package):
        assert not never & set(map(top, imports(file))), file


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_that_ships_imports_tests_the_testbed_or_the_demo(package: str) -> None:
    for file in files(package):
        assert not {"tests", "testbed", "demo", "benchmarks", "simulation", "soak"} & set(map(top, imports(file))), file


def test_only_one_family_of_modules_speaks_to_mariadb() -> None:
    assert importers("pymysql")
    assert all(name.startswith("sha_daemon/mariadb") for name in importers("pymysql"))


def test_only_one_module_speaks_to_sqlite() -> None:
    assert len(importers("sqlite3")) == 1
    assert all(name.startswith("sbc_daemon/outbox_") for name in importers("sqlite3"))


def test_the_producers_library_needs_the_standard_library_only() -> None:
    """`sbc_daemon.client` is imported into other people's backup programs."""
    brought = {top(module) for module in imported_by(ROOT / "sbc_daemon" / "client.py")}
    assert brought - {"sbc_daemon", "telemetry_common"} <= sys.stdlib_module_names


PURE = [
    "sha_daemon/transitions.py",
    "sha_daemon/silence.py",
    "sha_daemon/queries.py",
    "sha_daemon/thinning.py",
    "sha_daemon/retention.py",
    "sbc_daemon/cadence.py",
    "sbc_daemon/answers.py",
    "sbc_daemon/backoff.py",
    "sbc_daemon/doctor_daemon.py",
    "sbc_daemon/doctor_finding.py",
    "sbc_daemon/hub_answers.py",
    "sbc_daemon/lanes.py",
    "sbc_daemon/ledger.py",
    "sbc_daemon/metrics.py",
    "sbc_daemon/turns.py",
    "sbc_daemon/speed.py",
    "telemetry_common/contract.py",
    "telemetry_common/text.py",
]
WORLD = {"asyncio", "os", "pathlib", "socket", "subprocess", "threading", "time", "logging"}


@pytest.mark.parametrize("name", PURE)
def test_a_rule_cannot_reach_clock_disk_or_network(name: str) -> None:
    assert not WORLD & set(map(top, imports(ROOT / name))), name
