"""The password of the database's user: one line in a private file. What is wrong is said, what it says never."""

import os
from collections.abc import Mapping
from pathlib import Path

from telemetry_common.private_file import MAX_BYTES, read_private
from telemetry_common.settings import SettingsError


def read_password(path: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Raises SettingsError, which names the file and what was expected. The line's end is not part of it."""
    raw = read_private(path, "the hub's user (sha)", environ)
    try:
        lines = raw.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise SettingsError(f"cannot use {path}: expected a password as text, UTF-8") from None
    if not lines or not lines[0] or len(lines) > 1 or len(raw) > MAX_BYTES:
        raise SettingsError(f"cannot use {path}: expected one line, the password of the database's user")
    return lines[0]
