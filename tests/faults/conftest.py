"""What the tests of faults have in common: each says what it did, and the figures stand at the end of the output."""

from collections.abc import Callable

import pytest

Note = Callable[..., None]
_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """`note(kills=100, seconds=31.5)`: what this test did, for the summary."""

    def take(**figures: object) -> None:
        said = " ".join(f"{name}={_text(value)}" for name, value in figures.items())
        name = request.node.name.removeprefix("test_").replace("_", " ")
        request.config.stash.setdefault(_FIGURES, []).append(f"{name}: {said}")

    return take


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash.get(_FIGURES, [])
    if figures:
        terminalreporter.section("faults, commit tier")
        for line in figures:
            terminalreporter.line(line)


def _text(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
