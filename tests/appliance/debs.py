"""The packages under test: those of the commit that is checked out, and the same as a next version."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BUILT = PROJECT / "build" / "appliance"
VERSIONS = {"current": "", "next": "+next"}
"""What is put behind the version of each."""


@dataclass(frozen=True)
class Debs:
    """Both packages of one version."""

    hub: Path
    sidecar: Path


def built(which: str) -> Debs:
    """`current` or `next`; built where the checked out commit has none yet (some ten seconds each)."""
    where = BUILT / which
    commit = _commit()
    stamp = where / "commit"
    if not stamp.exists() or stamp.read_text() != commit:
        print(f"appliance: building the packages, {which} version", file=sys.stderr, flush=True)
        environment = {**os.environ, "DEB_SUFFIX": VERSIONS[which]}
        subprocess.run([PROJECT / "packaging" / "build", where], check=True, env=environment)
        stamp.write_text(commit)
    return Debs(*(_one(where, name) for name in ("sha-daemon", "sbc-daemon")))


def _commit() -> str:
    said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=True)
    return said.stdout


def _one(where: Path, name: str) -> Path:
    found = list(where.glob(f"{name}_*.deb"))
    if len(found) != 1:
        raise RuntimeError(f"expected one {name} package in {where}, found {len(found)}")
    return found[0]
