"""What a check found: how bad it is, what it means, and what to do. Pure."""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from telemetry_common.text import printable

Level = Literal["ok", "warning", "fail", "unknown"]
_MARKS: dict[Level, str] = {"ok": "ok", "warning": "warning", "fail": "FAIL", "unknown": "unknown"}
_CODES: dict[Level, int] = {"ok": 0, "unknown": 0, "warning": 1, "fail": 2}


class Finding(Struct, frozen=True):
    """`unknown`: it could not be told from here, which is no fault. `cure` is what to do, where something is."""

    level: Level
    check: str
    words: str
    cure: str = ""


def exit_code(findings: Iterable[Finding]) -> int:
    """0 all is well as far as could be told, 1 a warning, 2 something fails."""
    return max((_CODES[finding.level] for finding in findings), default=0)


def told(findings: Iterable[Finding]) -> str:
    """One line each."""
    return "\n".join(
        f"{_MARKS[finding.level]:8} {finding.check:8} {printable(finding.words)}"
        + (f" -> {printable(finding.cure)}" if finding.cure else "")
        for finding in findings
    )
