"""docs/database.md says what the statements need of the server: that must be what is in them, and nothing newer."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "database.md").read_text("utf-8")
SQL = "\n".join(path.read_text("utf-8") for where in ("sha_daemon/*.py", "sql/*.sql") for path in ROOT.glob(where))
CONSTRUCTS = [
    (name, version)
    for names, version in re.findall(r"^\| (`[^|]+`) \| (\d+\.\d+\.\d+)", PAGE, re.M)
    for name in re.findall("`([^`]+)`", names)
]
OLDEST = (10, 6, 0)
LATER = {
    "JSON_EQUALS": "10.7",
    "JSON_NORMALIZE": "10.7",
    "NATURAL_SORT_KEY": "10.7",
    "SFORMAT": "10.7",
    "JSON_OVERLAPS": "10.9",
    "uca1400": "10.10",
    "JSON_SCHEMA_VALID": "11.1",
    "JSON_KEY_VALUE": "11.2",
    "JSON_ARRAY_INTERSECT": "11.2",
}
"""What a newer server would offer, and since when."""


@pytest.mark.parametrize(("construct", "since"), CONSTRUCTS)
def test_what_the_page_says_is_needed_is_in_the_code_and_in_the_oldest_server(construct: str, since: str) -> None:
    assert construct in SQL
    assert tuple(map(int, since.split("."))) <= OLDEST


@pytest.mark.parametrize("construct", LATER)
def test_no_statement_needs_a_newer_server(construct: str) -> None:
    assert construct not in SQL


def test_no_column_of_a_json_table_names_a_collation() -> None:
    """Which of the 10.6 series take that is not documented."""
    tables = re.findall(r"COLUMNS \((.*?)\)\) u", SQL, re.S)
    assert len(tables) == SQL.count("COLUMNS (")
    assert not any("COLLATE" in columns for columns in tables)
