"""What a benchmark found: a table for people, and a list of findings in build/bench for programs."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

DIRECTORY = Path("build/bench")


class Finding(Struct, frozen=True, kw_only=True):
    """`reach` is what was asked, as people say it, and `reached` whether it was; both None for a mere observation."""

    what: str
    value: float
    unit: str
    reference: str | None = None
    reference_value: float | None = None
    ratio: float | None = None
    reach: str | None = None
    reached: bool | None = None


def beside(what: str, value: float, unit: str, reference: str, reference_value: float, *, least: float) -> Finding:
    """A figure that must be at least `least` of its reference's."""
    ratio = value / reference_value
    return Finding(
        what=what,
        value=value,
        unit=unit,
        reference=reference,
        reference_value=reference_value,
        ratio=ratio,
        reach=f"at least {least:g} of it",
        reached=ratio >= least,
    )


def below(what: str, value: float, unit: str, reference: str, reference_value: float, *, most: float) -> Finding:
    """A figure that must stay under `most` times its reference's."""
    ratio = value / reference_value
    return Finding(
        what=what,
        value=value,
        unit=unit,
        reference=reference,
        reference_value=reference_value,
        ratio=ratio,
        reach=f"under {most:g} times it",
        reached=ratio < most,
    )


def tell(name: str, findings: Sequence[Finding]) -> None:
    """Print the table, and write build/bench/NAME.json."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    (DIRECTORY / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(findings)) + b"\n")
    print(f"\n{name}, on {os.cpu_count()} cores; medians")
    rows = [("what", "value", "reference", "", "ratio", "reach", ""), *map(_row, findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(finding: Finding) -> tuple[str, ...]:
    return (
        finding.what,
        f"{_figure(finding.value)} {finding.unit}",
        finding.reference or "",
        "" if finding.reference_value is None else _figure(finding.reference_value),
        "" if finding.ratio is None else f"{finding.ratio:.2f}",
        finding.reach or "",
        {None: "", True: "reached", False: "NOT REACHED"}[finding.reached],
    )


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
