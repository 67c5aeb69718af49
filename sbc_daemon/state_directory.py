"""The directory of the outbox: one holder at a time, private files, and a damaged file moved out of the way."""

import datetime
import fcntl
import os
from pathlib import Path

from sbc_daemon.outbox import StateDirectoryHeld

SIDE_FILES = ("", "-wal", "-shm")
"""An SQLite database is these three together."""
KEPT_ASIDE = 3
"""Damaged files that are kept for whoever wants to look; the oldest beyond it go."""


def hold_directory(directory: Path) -> int:
    """A descriptor that holds the directory for this process until it is closed; the directory is made if missing.

    The lock is on the directory itself: it needs no file, so a full disk cannot refuse it, and it ends with the
    process. Raises StateDirectoryHeld, or OSError where there is no directory to be had.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StateDirectoryHeld(
            f"cannot use {directory}: another sbc-daemon has it; stop that one, or set outbox.directory"
        ) from None
    return descriptor


def is_held(directory: Path, descriptor: int) -> bool:
    """Whether the name still leads to the directory that is held."""
    try:
        return os.path.samestat(directory.stat(), os.fstat(descriptor))
    except OSError:
        return False


def make_private(path: Path) -> None:
    """The file exists and only its owner reads it; SQLite gives its side files the same mode. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


class Ballast:
    """Room on the disk that is ours already: a file given up when the disk is full, taken again when there is room.

    Without it a full disk could not even be told that something is delivered: removing needs room in SQLite's log.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    def take(self) -> bool:
        """Whether it is there now."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(descriptor, 0, self._size)
            return True
        except OSError:
            self.give_up()
            return False
        finally:
            os.close(descriptor)

    def give_up(self) -> bool:
        """Whether that made room."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True


def move_aside(path: Path, now_wall: float) -> Path:
    """Rename the database and its side files to `NAME.damaged-DATE...`; the new name. Raises OSError."""
    date = datetime.datetime.fromtimestamp(now_wall, datetime.UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    stem = f"{path.name}.damaged-{date}"
    number = 1
    while any(os.path.lexists(path.with_name(stem + suffix)) for suffix in SIDE_FILES):
        number += 1
        stem = f"{path.name}.damaged-{date}.{number}"
    _drop_old(path)
    for suffix in SIDE_FILES:
        side = path.with_name(path.name + suffix)
        if os.path.lexists(side):
            side.rename(path.with_name(stem + suffix))
    return path.with_name(stem)


def _drop_old(path: Path) -> None:
    """Leave room for one more among the kept ones. What is not a plain file is somebody else's and stays."""
    aside = sorted(
        file for file in path.parent.glob(f"{path.name}.damaged-*") if not file.name.endswith(SIDE_FILES[1:])
    )
    for old in aside[: max(0, len(aside) - KEPT_ASIDE + 1)]:
        for suffix in SIDE_FILES:
            side = old.with_name(old.name + suffix)
            if side.is_file() and not side.is_symlink():
                side.unlink()
