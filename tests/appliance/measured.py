"""What was measured along the story, a table at its end: one file for each Debian, `build/appliance/DEBIAN.json`."""

import json
from pathlib import Path

from tests.appliance.debs import BUILT

Figures = dict[str, str]


class Measured:
    """Figures of one Debian, in the order in which they were taken."""

    def __init__(self, suite: str) -> None:
        self._file = _file(suite)
        self._figures: Figures = {}

    def __call__(self, what: str, value: float | str, unit: str = "") -> None:
        shown = f"{value:.1f}" if isinstance(value, float) else str(value)
        self._figures[what] = f"{shown} {unit}".strip()

    def keep(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self._figures, indent=2))


def table(suites: tuple[str, ...]) -> str:
    """All Debians side by side."""
    found = {suite: _read(suite) for suite in suites}
    names = dict.fromkeys(what for figures in found.values() for what in figures)
    rows = [("", *suites), *((what, *(found[suite].get(what, "-") for suite in suites)) for what in names)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def forget(suite: str) -> None:
    _file(suite).unlink(missing_ok=True)


def _read(suite: str) -> Figures:
    try:
        figures: Figures = json.loads(_file(suite).read_text())
    except FileNotFoundError:
        return {}
    return figures


def _file(suite: str) -> Path:
    return BUILT / f"{suite}.json"
