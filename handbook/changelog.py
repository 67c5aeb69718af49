"""Debian's changelog, from CHANGELOG.md and the one place where the version stands.

`python -m handbook.changelog SECONDS [SUFFIX]`: SECONDS since 1970 date what is not released yet; SUFFIX is put behind
the version. Needs the standard library only.
"""

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from textwrap import wrap

from telemetry_common import __version__

ROOT = Path(__file__).resolve().parent.parent
SECTION = re.compile(r"^## \[(?P<name>[^]]+)\](?: - (?P<date>\d{4}-\d\d-\d\d))?\n", re.M)
ITEM = re.compile(r"^- (.+(?:\n  .+)*)", re.M)
MAINTAINER = re.compile(r"^Maintainer: (.+)$", re.M)


def main(built: int, suffix: str = "") -> None:
    [maintainer] = MAINTAINER.findall((ROOT / "packaging/debian/control").read_text("utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    print("\n".join(entries(changes, __version__, suffix, datetime.fromtimestamp(built, UTC), maintainer)), end="")


def entries(text: str, current: str, suffix: str, built: datetime, maintainer: str) -> Iterator[str]:
    """One for each section that says something. What is not released yet is of the current version."""
    found = list(SECTION.finditer(text))
    ends = [*(later.start() for later in found[1:]), len(text)]
    for section, end in zip(found, ends, strict=True):
        if items := [" ".join(item.split()) for item in ITEM.findall(text[section.end() : end])]:
            version = current if section["name"] == "Unreleased" else section["name"]
            when = datetime.fromisoformat(section["date"]).replace(tzinfo=UTC) if section["date"] else built
            yield entry(version + (suffix if version == current else ""), items, when, maintainer)


def entry(version: str, items: list[str], when: datetime, maintainer: str) -> str:
    lines = [f"backup-telemetry ({version}) unstable; urgency=medium", ""]
    for item in items:
        lines += wrap(item.replace("`", ""), 76, initial_indent="  * ", subsequent_indent="    ")
    return "\n".join([*lines, "", f" -- {maintainer}  {format_datetime(when)}", ""])


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:3])
