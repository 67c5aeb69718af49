"""Log lines and figures: exact, and not to be forged by anything a sender says."""

import logging
from collections.abc import Iterator

import pytest

from telemetry_common import logs
from telemetry_common.logs import fields
from telemetry_common.text import duration, printable, size


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (-3, "0s"),
        (0.4, "0s"),
        (0.5, "1s"),
        (59.4, "59s"),
        (59.5, "1m0s"),
        (312, "5m12s"),
        (300, "5m0s"),
        (3600, "1h0m0s"),
        (3601, "1h0m1s"),
        (3723, "1h2m3s"),
        (93780, "26h3m0s"),
    ],
)
def test_a_duration_is_printed_as_go_does(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 << 30, "5.0 GiB"),
        (2**63 - 1, "8.0 EiB"),
        (2**80, "1048576.0 EiB"),
    ],
)
def test_a_size_is_printed_in_binary_units(count: int, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("ünï ✓", "ünï ✓"),
        ("a\nb", "a\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202e", "\\u202e"),
        ("\u2028", "\\u2028"),
        ("\udc80", "\\udc80"),
        ("x" * 600, "x" * 500),
    ],
)
def test_nothing_that_moves_a_cursor_is_printed(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("j1", "job=j1"),
        ("", 'job=""'),
        ("a b", 'job="a b"'),
        ("a=b", 'job="a=b"'),
        ('a"b', 'job="a\\"b"'),
        ('x" error="none', 'job="x\\" error=\\"none"'),
        ("a\\ b", 'job="a\\\\ b"'),
        ("j1\n<0>forged line=yes", 'job="j1\\\\n<0>forged line=yes"'),
        (1.23456, "job=1.235"),
        (7, "job=7"),
    ],
)
def test_a_value_stays_one_value_of_one_line(value: object, shown: str) -> None:
    assert fields("seen", job=value) == f"seen {shown}"


def test_a_value_that_is_not_there_is_not_mentioned() -> None:
    assert fields("seen", job="j1", code=None) == "seen job=j1"


@pytest.fixture
def under_journald(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard error leads to journald; afterwards logging is as it was."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.mark.usefixtures("under_journald")
def test_every_line_of_a_traceback_keeps_its_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info")
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("x").exception("it broke")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "<3>it broke"
    assert all(line.startswith("<3>") for line in lines)
    assert lines[-1] == "<3>second"


@pytest.mark.usefixtures("under_journald")
def test_what_is_below_the_level_is_not_logged_and_aiohttps_access_log_never(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.setup("warning")
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    logging.getLogger("aiohttp.access").info("GET / 200")
    assert capsys.readouterr().err == "<4>loud\n"
