"""A plugin of pytest for `story`: the line that is being told, in words, instead of dots."""

import re
import time

import pytest

_begun = time.monotonic()


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def sentence(name: str) -> str:
    """`test_a_hub_runs[bookworm-hub]` is `a hub runs (hub)`."""
    words, _, parameters = name.removeprefix("test_").partition("[")
    others = re.sub(r"^(bookworm|trixie)-?", "", parameters.rstrip("]"))
    return words.replace("_", " ") + (f" ({others})" if others else "")


class Teller:
    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter

    def _say(self, text: str) -> None:
        self._reporter.write_line(f"{clock(time.monotonic() - _begun)}  {text}")
        self._reporter.flush()

    def pytest_runtest_logstart(self, location: tuple[str, int | None, str]) -> None:
        self._say(sentence(location[2]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._say(f"FAILED  {sentence(report.location[2])}")

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """No dots."""
        return ("passed" if report.when == "call" else "", "", "") if report.passed else None


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if isinstance(reporter, pytest.TerminalReporter):
        config.pluginmanager.register(Teller(reporter))
