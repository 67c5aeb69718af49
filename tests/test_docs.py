"""What the documentation says of the code must be so: links, files, routes, messages, the two commands."""

import re
from pathlib import Path

import pytest
from msgspec import UNSET

from sha_daemon.openapi_operations import OPERATIONS
from simulation import promises
from telemetry_common.contract import Update, decode_line, decode_update

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CHANGELOG.md"]
PACKAGES = [
    "telemetry_common",
    "sha_daemon",
    "sbc_daemon",
    "sbc_daemon/report",
    "testbed",
    "simulation",
    "demo",
    "handbook",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("package", PACKAGES)
def test_the_layout_names_every_file_once_and_none_that_is_not_there(package: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = text.split(f"### `{package}/`")[1].split("###")[0]
    there = {path.name for path in (ROOT / package).glob("*.py")} - {"__init__.py"}
    assert sorted(re.findall(r"^\| `(\w+\.py)`", section, re.M)) == sorted(there)


def test_the_reliability_page_says_when_each_promise_of_the_simulation_is_broken() -> None:
    said = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    names = [name for what, name in vars(promises).items() if what.isupper()]
    assert [name for name in names if name not in said] == []


def test_the_api_page_has_a_section_for_every_operation() -> None:
    """Of those that only ever refuse there is nothing to tell."""
    said = (ROOT / "docs" / "api.md").read_text("utf-8")
    sections = set(re.findall(r"^##+ .*?`(GET|POST) (/[^`]+)`", said, re.M))
    useful = {(o.method.upper(), o.path) for o in OPERATIONS if any(status < 400 for status in o.answers)}
    assert {(method, path.replace("/telemetry/backup", "/telemetry/{job_type}")) for method, path in sections} == useful


def test_the_api_page_names_every_event_of_the_stream() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "sha_daemon").glob("stream*.py"))
    table = (ROOT / "docs" / "api.md").read_text("utf-8").split("| event | data |")[1].split("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)`", table, re.M)) == sorted(set(re.findall(r'event\("(\w+)"', source)))


def test_every_message_of_the_runbook_is_one_that_a_daemon_can_log() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    messages = re.findall(r"^\| `([^`]+)` \|", page.split("## Messages")[1], re.M)
    code = " ".join(path.read_text("utf-8") for package in PACKAGES for path in (ROOT / package).glob("*.py"))
    assert messages
    for message in messages:
        assert all(part in code for part in message.split("...")), message


@pytest.mark.parametrize(
    ("package", "table"),
    [("sha_daemon", "hub"), ("sbc_daemon", "client"), ("telemetry_common", "hub"), ("telemetry_common", "client")],
)
def test_every_warning_and_error_that_a_daemon_logs_is_in_its_table_of_the_runbook(package: str, table: str) -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8").split("## Messages")[1].split("\n## ")[0]
    hub, client = page.split("On a client")
    rows = hub if table == "hub" else client
    code = " ".join(path.read_text("utf-8") for path in (ROOT / package).glob("*.py"))
    said = re.findall(r'log\.(?:warning|error|critical|exception)\(\s*(?:\w+\.)?(?:fields\(\s*)?f?"([^"]+)"', code)
    assert said
    assert [text for text in said if f"`{re.sub(r'{.*?}', '...', text)}" not in rows] == []


def test_the_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / "README.md").read_text("utf-8"), re.M):
        assert f"\n{target}:" in makefile


def test_the_example_of_the_api_page_is_a_message_that_the_hub_takes() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    example = page.split("### The payload")[1].split("```json\n")[1].split("```")[0]
    update = decode_update(example.encode())
    said = {name for name in Update.__struct_fields__ if getattr(update, name) is not UNSET}
    assert said == set(Update.__struct_fields__) - {"idle_seconds"}


def test_every_field_of_a_message_is_explained_on_the_api_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    table = page.split("| field | values |")[1].split("###")[0]
    named = set(re.findall(r"`(\w+)`", table))
    assert set(Update.__struct_fields__) - {"job_id", "job_type"} <= named


def test_every_line_of_the_conversation_on_the_socket_page_is_one_that_the_sidecar_takes() -> None:
    page = (ROOT / "docs" / "socket-protocol.md").read_text("utf-8")
    lines = re.findall(r"^> (.+)$", page, re.M)
    assert [decode_line(line.encode()) for line in lines]
