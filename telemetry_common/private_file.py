"""A file with a secret in it: one line that only its owner may read. What is wrong is said, what it says never."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from telemetry_common.settings import SettingsError

MAX_BYTES = 4096


def read_private(path: Path, owner: str, environ: Mapping[str, str] = os.environ) -> bytes:
    """The first MAX_BYTES + 1 bytes, so that a caller can tell what is too long. Raises SettingsError.

    `owner` is whom the file should belong to, for the operator. A file that systemd handed over (LoadCredential=) lies
    in a directory that only the service can enter; the mode of the file itself says nothing there, its group being the
    mask of an ACL.
    """
    try:
        raw, mode = _read(path)
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror or error}") from None
    if not stat.S_ISREG(mode):
        raise SettingsError(f"cannot use {path}: expected a file with a secret in it")
    if mode & 0o077 and not _handed_over(path, environ):
        who = "everybody" if mode & 0o007 else "its group"
        raise SettingsError(f"cannot use {path}: it is open to {who}; expected mode 0600 and {owner} as its owner")
    return raw


def _read(path: Path) -> tuple[bytes, int]:
    """Content and mode of one and the same file; a pipe in its place does not make the start wait."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        return os.read(descriptor, MAX_BYTES + 1) if stat.S_ISREG(mode) else b"", mode
    finally:
        os.close(descriptor)


def _handed_over(path: Path, environ: Mapping[str, str]) -> bool:
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    return bool(directory) and path.resolve().is_relative_to(Path(directory).resolve())
