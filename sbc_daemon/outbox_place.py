"""Where the outbox's files lie: whether their names still lead to those that are open, and a whole copy put in their
place. Knows names and inodes, and nothing of SQLite, which would write on into a file that has no name any more.

The copy is `NAME.copying` until it is whole and on the disk, then `NAME.copy` until it has the name: a start that finds
`NAME.copy` goes on from there.
"""

import os
from contextlib import suppress
from pathlib import Path

from sbc_daemon.state_directory import SIDE_FILES, move_aside

Identity = tuple[int, int]
"""Device and inode. No other file has them as long as this one is open."""


def identity(name: str) -> Identity | None:
    """Of what lies there, not of what a link leads to; None where nothing can be found."""
    try:
        found = os.lstat(name)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class OutboxPlace:
    """`files` are the open ones: the database, its log, the log's index."""

    def __init__(self, path: Path) -> None:
        self.files: tuple[Identity | None, ...] = (None, None, None)
        self._path = path
        self._names = tuple(f"{path}{suffix}" for suffix in SIDE_FILES)
        self._unfinished = path.with_name(f"{path.name}.copying")
        self._whole = path.with_name(f"{path.name}.copy")
        self._copy: Identity | None = None
        self._with_log = True

    def database(self) -> Identity | None:
        """To be asked before it is opened, and handed to `opened` then: what takes its place in between is seen."""
        return identity(self._names[0])

    def opened(self, database: Identity | None, *, with_log: bool) -> None:
        """Without a log where the file system does not let SQLite have one."""
        self._with_log = with_log
        self.files = (database, identity(self._names[1]), identity(self._names[2]))

    def is_ours(self) -> bool:
        """Whether a start would find the database and the log that are open. Costs two `lstat`."""
        database, log, _ = self.files
        if database is None or identity(self._names[0]) != database:
            return False
        return not self._with_log or (log is not None and identity(self._names[1]) == log)

    def begin_copy(self) -> Path:
        """An empty private file to copy into. Raises OSError."""
        self._unfinished.unlink(missing_ok=True)
        os.close(os.open(self._unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        return self._unfinished

    def finish_copy(self) -> Identity:
        """It is whole: a start takes it up from now on, also after a power cut. Raises OSError."""
        _sync(self._unfinished)
        self._copy = copy = _required(self._unfinished)
        self._unfinished.rename(self._whole)
        _sync(self._path.parent)
        with suppress(OSError):  # the directory itself may be new; its parent need not be ours to read
            _sync(self._path.parent.parent)
        return copy

    def put_copy(self, now_wall: float) -> Path | None:
        """Give the whole copy the name. What others have put there is moved aside; its new name. Raises OSError."""
        for name, ours in zip(self._names, self.files, strict=True):
            found = identity(name)
            if found is not None and found in (ours, self._copy):
                Path(name).unlink()
        aside = move_aside(self._path, now_wall) if any(map(os.path.lexists, self._names)) else None
        self._whole.rename(self._path)
        _sync(self._path.parent)
        return aside

    def discard_copy(self) -> None:
        for file in (self._unfinished, self._whole):
            with suppress(OSError):
                file.unlink()

    def take_up_copy(self, now_wall: float) -> bool:
        """Whether the last process died over a whole copy; it has the name now. Raises OSError."""
        found = self._whole.is_file() and not self._whole.is_symlink()
        if found:
            self.put_copy(now_wall)
        self.discard_copy()
        return found


def _required(path: Path) -> Identity:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
