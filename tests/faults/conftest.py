"""What the tests of faults have in common: each says what it did, and the figures stand at the end of the output."""

import time
from collections.abc import Callable
from typing import Any

import pytest

Note = Callable[..., None]
_PROPERTY = "figures"


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """`note(kills=100)`: what this test did, for the summary; the seconds so far are added."""
    begun = time.monotonic()

    def take(**figures: object) -> None:
        said = " ".join(f"{name}={_text(value)}" for name, value in figures.items())
        name = request.node.name.removeprefix("test_").replace("_", " ")
        request.node.user_properties.append((_PROPERTY, f"{name}: {said} seconds={time.monotonic() - begun:.1f}"))

    return take


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Of all processes that ran tests."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    lines = [text for report in reports for name, text in report.user_properties if name == _PROPERTY]
    if lines:
        terminalreporter.section("faults, commit tier")
        for line in lines:
            terminalreporter.line(line)


def _text(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
