"""The token that this client shows the hub: one line in a private file. What is wrong is said, what it says never."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from telemetry_common.settings import SettingsError

MAX_BYTES = 4096
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""As RFC 6750 has it: what goes into a header without a question."""


def read_token(path: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Raises SettingsError, which names the file and what was expected.

    Nobody but the owner may read the file. One that systemd handed over (LoadCredential=) lies in a directory that only
    the service can enter; the mode of the file itself says nothing there, its group being the mask of an ACL.
    """
    try:
        raw, mode = _read(path)
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror or error}") from None
    if not stat.S_ISREG(mode):
        raise SettingsError(f"cannot use {path}: expected a file with a token in it")
    if mode & 0o077 and not _handed_over(path, environ):
        who = "everybody" if mode & 0o007 else "its group"
        raise SettingsError(f"cannot use {path}: it is open to {who}; expected mode 0600 and the sidecar as its owner")
    return _parsed(path, raw)


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


def _parsed(path: Path, raw: bytes) -> str:
    words = raw.decode("ascii", "replace").strip()
    if not words:
        raise SettingsError(f"cannot use {path}: it is empty; expected a token, as `shactl token create` shows it")
    if len(words.splitlines()) > 1:
        raise SettingsError(f"cannot use {path}: it has several lines; expected one, with the token alone")
    if len(raw) > MAX_BYTES or not _TOKEN.fullmatch(words):
        raise SettingsError(
            f"cannot use {path}: this is no token; expected one word, as `shactl token create` shows it"
        )
    return words
