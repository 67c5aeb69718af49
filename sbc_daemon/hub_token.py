"""The token that this client shows the hub: one line in a private file. What is wrong is said, what it says never."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from telemetry_common.private_file import MAX_BYTES, read_private
from telemetry_common.settings import SettingsError

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""As RFC 6750 has it: what goes into a header without a question."""


def read_token(path: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Raises SettingsError, which names the file and what was expected."""
    return _parsed(path, read_private(path, "the sidecar", environ))


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
