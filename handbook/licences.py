"""The licence texts of the libraries in an environment that `pip install --target` made, each under name and version.

`python -m handbook.licences DIRECTORY` prints them. It exits 1, naming it, where a library has none: that one could not
be shipped. Needs the standard library only.
"""

import sys
from email.parser import HeaderParser
from pathlib import Path

OURS = "backup-telemetry"
WORDS = ("licen", "copying", "notice")


def main(directory: Path) -> int:
    for info in sorted(directory.glob("*.dist-info")):
        metadata = HeaderParser().parsestr((info / "METADATA").read_text("utf-8"))
        name = f"{metadata['Name']} {metadata['Version']}"
        if metadata["Name"] == OURS:
            continue
        texts = sorted(path for path in info.rglob("*") if path.is_file() and is_licence(path))
        if not texts:
            print(f"licences: cannot find the licence of {name}", file=sys.stderr)
            return 1
        print(f"==== {name}\n")
        for path in texts:
            print(path.read_text("utf-8").strip() + "\n")
    return 0


def is_licence(path: Path) -> bool:
    return any(word in path.name.lower() for word in WORDS)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
