"""The Debian packages, built from a clone as anybody would, and looked into without installing them."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WHEELHOUSE = ROOT / "build" / "wheelhouse"
_NO_NETWORK = ["unshare", "--map-root-user", "--net"]


class Deb:
    """A package that was built, and what is in it, unpacked beside it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.name = file.name.partition("_")[0]
        self.root = file.parent / self.name
        _run(["dpkg-deb", "-R", str(file), str(self.root)])

    @property
    def environment(self) -> Path:
        return self.root / "usr" / "lib" / self.name

    def control(self, script: str) -> str:
        return (self.root / "DEBIAN" / script).read_text("utf-8")

    def paths(self, under: str = "") -> set[str]:
        """All files, relative to the system's root."""
        found = (path for path in (self.root / under).rglob("*") if path.is_file())
        return {f"/{path.relative_to(self.root)}" for path in found if "DEBIAN" not in path.parts}

    def python(self, code: str, *arguments: str) -> str:
        """What Debian's Python says, with this package's environment, as its programs have it, and no other."""
        prologue = f"import sys; sys.path.insert(0, {str(self.environment)!r})\n"
        return _run(["/usr/bin/python3", "-ISB", "-c", prologue + code, *arguments], cwd=Path("/"))


def build(clone: Path, *, offline: bool, **environ: str) -> dict[str, Path]:
    """`packaging/build` in a clone, without a network if so asked. The files by their packages' names."""
    command = [*(_NO_NETWORK if offline else []), "packaging/build"]
    _run(command, cwd=clone, env={**os.environ, "WHEELHOUSE": str(WHEELHOUSE), **environ})
    return {file.name.partition("_")[0]: file for file in (clone / "build" / "deb").glob("*.deb")}


def clone(where: Path) -> Path:
    """What is committed, as whoever clones the project gets it."""
    _run(["git", "clone", "--quiet", "--no-hardlinks", "--depth=1", f"file://{ROOT}", str(where)])
    return where


def lint(debs: Sequence[Path]) -> str:
    """What lintian finds, but for what it thinks possible only."""
    done = subprocess.run(
        ["lintian", "--allow-root", "--no-cfg", "--display-level", ">=info", *map(str, debs)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def _run(command: Sequence[str], cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr[-4000:]}"
    return done.stdout
