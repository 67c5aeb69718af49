"""What `make deb` makes, looked into without installing it: two packages, each with all that its daemon needs."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from handbook.programs import CONFIGURATIONS, PROGRAMS
from telemetry_common import __version__
from tests.support.debs import ROOT, WHEELHOUSE, Deb, build, clone, lint

pytestmark = pytest.mark.packages
NAMES = ("sha-daemon", "sbc-daemon")
UNITS = {
    "sha-daemon": ["sha-daemon.service", "sha-daemon.socket", "sha-db.service"],
    "sbc-daemon": ["sbc-daemon-control.socket", "sbc-daemon-metrics.socket", "sbc-daemon.service", "sbc-daemon.socket"],
}
EVERY_MODULE = """
import importlib, pkgutil
def failed(name): raise
for top in sys.argv[1:]:
    package = importlib.import_module(top)
    for module in pkgutil.walk_packages(package.__path__, top + ".", onerror=failed):
        importlib.import_module(module.name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""

named = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Deb]:
    """From a clean clone, with no network."""
    subprocess.run(["packaging/wheelhouse", str(WHEELHOUSE)], cwd=ROOT, check=True, capture_output=True)
    made = build(clone(tmp_path_factory.mktemp("deb") / "clone"), offline=True)
    return {name: Deb(file) for name, file in made.items()}


@pytest.fixture
def other_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.timeout(300)
def test_both_are_built_from_a_clean_clone_without_a_network(built: Mapping[str, Deb]) -> None:
    assert sorted(deb.file.name for deb in built.values()) == [f"{n}_{__version__}_amd64.deb" for n in sorted(NAMES)]


@pytest.mark.timeout(300)
def test_the_same_commit_makes_the_same_bytes(built: Mapping[str, Deb], tmp_path: Path, other_umask: None) -> None:
    """In another place, with another umask, in another time zone, language and home."""
    elsewhere = clone(tmp_path / "another place")
    again = build(elsewhere, offline=False, TZ="Asia/Tokyo", LC_ALL="C", HOME=str(tmp_path), SOURCE_DATE_EPOCH="1")
    for name in NAMES:
        assert again[name].read_bytes() == built[name].file.read_bytes(), f"{name} differs"


@pytest.mark.timeout(300)
def test_lintian_has_nothing_to_say(built: Mapping[str, Deb]) -> None:
    assert lint([deb.file for deb in built.values()]) == ""


@named
def test_every_module_imports_with_what_the_package_has(name: str, built: Mapping[str, Deb]) -> None:
    ours = ["telemetry_common", name.replace("-", "_")]
    imported = built[name].python(EVERY_MODULE, *ours).split()
    other = {"sha_daemon", "sbc_daemon"} - set(ours)
    assert other.isdisjoint(imported)


def test_the_sidecar_has_nothing_of_the_hubs(built: Mapping[str, Deb]) -> None:
    there = {path.name for path in built["sbc-daemon"].environment.iterdir()}
    assert {"pymysql", "prometheus_client", "sha_daemon"}.isdisjoint(there)
    assert {"aiohttp", "msgspec", "sbc_daemon", "telemetry_common"} <= there


@named
def test_modules_in_c_are_there_for_the_pythons_of_both_debians(name: str, built: Mapping[str, Deb]) -> None:
    found = [re.fullmatch(r"(\w+)\.cpython-(\d+)-.+\.so", file.name) for file in built[name].environment.rglob("*.so")]
    modules = {(module[2], module[1]) for module in found if module}
    assert {version for version, _ in modules} == {"311", "313"}
    assert {module for version, module in modules if version == "311"} == {
        module for version, module in modules if version == "313"
    }


@named
def test_a_program_says_its_version(name: str, built: Mapping[str, Deb]) -> None:
    """The launcher is run as it is, but for the place of what it starts."""
    deb = built[name]
    for program in PROGRAMS:
        if program.package == name:
            launcher = (deb.root / "usr" / "bin" / program.name).read_text("utf-8")
            assert launcher.startswith("#!/usr/bin/python3 -IS\n")
            here = launcher.replace("/usr/lib/", f"{deb.root}/usr/lib/")
            command = ["/usr/bin/python3", "-ISB", "-c", here, "--version"]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert said == f"{program.name} {__version__}\n"


def test_a_producers_program_imports_the_client_and_no_library_of_ours(
    built: Mapping[str, Deb], tmp_path: Path
) -> None:
    deb = built["sbc-daemon"]
    library = deb.root / "usr" / "lib" / "python3" / "dist-packages"
    code = f"import sys; sys.path.insert(0, {str(library)!r}); from sbc_daemon.client import Job; print(Job.__module__)"
    said = subprocess.run(["/usr/bin/python3", "-ISB", "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "sbc_daemon.client\n"
    assert {path.name for path in library.iterdir()} == {"sbc_daemon"}


@named
def test_the_configuration_is_kept_and_whatever_is_added_to_it(name: str, built: Mapping[str, Deb]) -> None:
    deb = built[name]
    assert deb.control("conffiles").split() == [f"/etc/{name}/config.toml"]
    assert deb.paths("etc") == {f"/etc/{name}/config.toml"}
    shipped = (deb.root / "etc" / name / "config.toml").read_text("utf-8")
    assert shipped == (ROOT / "packaging" / f"{name}.toml").read_text("utf-8")
    assert (deb.root / "etc" / name / "conf.d").is_dir()


@named
def test_the_units_and_the_user_are_those_of_the_project(name: str, built: Mapping[str, Deb]) -> None:
    deb = built[name]
    there = {Path(path).name: deb.root / path[1:] for path in deb.paths() if "/systemd/system/" in path}
    assert sorted(there) == UNITS[name]
    for unit, path in there.items():
        assert path.read_bytes() == (ROOT / "systemd" / unit).read_bytes()
    users = deb.root / "usr" / "lib" / "sysusers.d" / f"{name}.conf"
    assert users.read_bytes() == (ROOT / "systemd" / "sysusers.d" / f"{name}.conf").read_bytes()


def test_the_drop_ins_that_the_runbook_installs_are_where_it_looks_for_them(built: Mapping[str, Deb]) -> None:
    there = built["sha-daemon"].paths("usr/share/sha-daemon")
    runbook = (ROOT / "docs" / "operations.md").read_text("utf-8")
    for directory, block in re.findall(r"cd (/usr/share/sha-daemon/\S+)\n(.+?)```", runbook, re.S):
        for name in re.findall(r"install -Dm644 (\S+)", block):
            assert f"{directory}/{name}" in there
            there.remove(f"{directory}/{name}")
    assert there == {"/usr/share/sha-daemon/network/sha-daemon.service.conf"}, "no step installs these"


@named
def test_every_command_has_its_page_and_completions(name: str, built: Mapping[str, Deb]) -> None:
    expected = {f"/usr/share/man/man5/{each.name}.5.gz" for each in CONFIGURATIONS if each.daemon == name}
    for program in (program for program in PROGRAMS if program.package == name):
        expected |= {
            f"/usr/bin/{program.name}",
            f"/usr/share/man/man{program.section}/{program.name}.{program.section}.gz",
            f"/usr/share/bash-completion/completions/{program.name}",
            f"/usr/share/zsh/vendor-completions/_{program.name}",
            f"/usr/share/fish/vendor_completions.d/{program.name}.fish",
        }
    prefixes = ("/usr/bin/", "/usr/share/man/", "/usr/share/bash-completion/", "/usr/share/zsh/", "/usr/share/fish/")
    assert {path for path in built[name].paths() if path.startswith(prefixes)} == expected


@named
def test_the_licence_of_every_library_goes_with_it(name: str, built: Mapping[str, Deb]) -> None:
    deb = built[name]
    texts = (deb.root / "usr" / "share" / "doc" / name / "third-party-licenses.txt").read_text("utf-8")
    libraries = {path.name.partition("-")[0] for path in deb.environment.glob("*.dist-info")} - {"backup_telemetry"}
    told = {line.split()[1].lower().replace("-", "_") for line in texts.splitlines() if re.match(r"==== \S+ \d", line)}
    assert told == libraries


@named
def test_nothing_is_shipped_that_is_of_the_building(name: str, built: Mapping[str, Deb]) -> None:
    """Compiled files are made where it is installed, for the Python that is there."""
    deb = built[name]
    assert [
        path for path in deb.paths() if path.endswith((".pyc", ".c", ".pyx", ".pyi", "RECORD", "direct_url.json"))
    ] == []
    for path in (path for path in deb.paths() if path.endswith((".py", ".toml", ".txt", ".service"))):
        assert "/build/deb/src" not in (deb.root / path[1:]).read_text("utf-8"), path


@named
def test_an_upgrade_leaves_the_sockets_open_and_restarts_the_daemon(name: str, built: Mapping[str, Deb]) -> None:
    actions = re.findall(r"deb-systemd-invoke (\S+) (.+?) >", built[name].control("postinst"))
    assert [(action, "socket" in units) for action, units in actions if "sha-db" not in units] == [
        ("start", True),
        ("$_dh_action", False),
    ]
    for condition in re.findall(r"^if (.+)\n(?:\t#.*\n)*\tdeb-systemd-invoke stop", built[name].control("prerm"), re.M):
        assert '[ "$1" = remove ]' in condition


@named
def test_a_removal_closes_the_sockets_before_anything_else(name: str, built: Mapping[str, Deb]) -> None:
    """Else a client that connects meanwhile would start the daemon anew."""
    stopped = re.findall(r"deb-systemd-invoke stop (.+?) >", built[name].control("prerm"))
    sockets = {unit for unit in UNITS[name] if unit.endswith(".socket")}
    assert sockets <= set(stopped[0].split())
    assert f"{name}.service" not in stopped[0]


def test_the_tables_are_migrated_before_the_new_hub_starts(built: Mapping[str, Deb]) -> None:
    restarts = re.findall(
        r"deb-systemd-invoke (?:restart|\$_dh_action) (\S+) ", built["sha-daemon"].control("postinst")
    )
    assert [unit.strip("'") for unit in restarts] == ["sha-db.service", "sha-daemon.service"]
    assert not (built["sha-daemon"].root / "DEBIAN" / "preinst").exists(), "something is stopped before the upgrade"
