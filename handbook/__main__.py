"""`python -m handbook DIRECTORY SECONDS`: write all man pages and completions; SECONDS since 1970 date them."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from handbook import bash, configuration_page, fish, man_page, zsh
from handbook.programs import CONFIGURATIONS, PROGRAMS


def main(directory: Path, seconds: int) -> None:
    date = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    for program in PROGRAMS:
        command = program.command()
        _write(directory / "man" / f"{program.name}.{program.section}", man_page.page(program, command, date))
        _write(directory / "bash" / program.name, bash.completion(command))
        _write(directory / "zsh" / f"_{program.name}", zsh.completion(command))
        _write(directory / "fish" / f"{program.name}.fish", fish.completion(command))
    for configuration in CONFIGURATIONS:
        page = configuration_page.page(configuration, date)
        _write(directory / "man" / f"{configuration.name}.5", page)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
