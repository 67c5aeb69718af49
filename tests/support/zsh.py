"""An interactive zsh on a terminal of its own, asked what it would complete."""

import os
import pty
import select
import subprocess
import time
from pathlib import Path

SECONDS = 20.0
_SET_UP = (
    "fpath=({directory} $fpath); autoload -Uz compinit; compinit -u -D; PS1=; bindkey '^I' list-choices; echo be''gun\n"
)


def completions(directory: Path, line: str, mark: str) -> str:
    """What it shows when Tab is pressed behind `line`, until `mark` is in it. Raises TimeoutError if it never is."""
    terminal, its_end = pty.openpty()
    child = subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "200"},
    )
    os.close(its_end)
    try:
        os.write(terminal, _SET_UP.format(directory=directory).encode())
        _read(terminal, "begun")
        os.write(terminal, f"{line}\t".encode())
        return _read(terminal, mark)
    finally:
        child.kill()
        child.wait()
        os.close(terminal)


def _read(terminal: int, mark: str) -> str:
    seen = b""
    deadline = time.monotonic() + SECONDS
    while mark.encode() not in seen:
        if not select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError(f"{mark!r} is not in {seen!r}")
        seen += os.read(terminal, 65536)
    return seen.decode()
