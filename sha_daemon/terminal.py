"""A terminal taken over for a live view, and given back as it was, however that ends."""

import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_TAKE, _GIVE_BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


class Screen:
    def size(self) -> tuple[int, int]:
        """Columns and rows, as they are now."""
        found = shutil.get_terminal_size()
        return found.columns, found.lines

    def paint(self, lines: Sequence[str]) -> None:
        """In place of what was there, without a flicker."""
        body = f"{_REST_OF_LINE}\r\n".join(lines)
        sys.stdout.write(f"{_HOME}{body}{_REST_OF_LINE}{_REST_OF_SCREEN}")
        sys.stdout.flush()

    def key(self, seconds: float) -> str:
        """The key that is pressed within `seconds`; empty when none is."""
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return os.read(sys.stdin.fileno(), 1).decode("ascii", "replace") if ready else ""


@contextmanager
def full_screen() -> Iterator[Screen]:
    """The alternate screen without a cursor; keys come one by one, and are not shown."""
    before = termios.tcgetattr(sys.stdin)
    sys.stdout.write(_TAKE)
    try:
        tty.setcbreak(sys.stdin)
        yield Screen()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stdout.write(_GIVE_BACK)
        sys.stdout.flush()
