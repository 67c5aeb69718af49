"""The unit files, read as systemd reads them."""

from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[2] / "systemd"
NAMES = sorted(path.name for path in DIRECTORY.iterdir() if path.is_file())

Unit = dict[tuple[str, str], list[str]]


def unit(name: str) -> Unit:
    """Every value that a unit (or a drop-in, by its path below `systemd/`) gives for a key of a section, in order."""
    section, found = "", Unit()
    for line in (DIRECTORY / name).read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault((section, key), []).append(value)
    return found


def value(name: str, section: str, key: str) -> str:
    """The one that counts: the last."""
    return unit(name)[section, key][-1]
