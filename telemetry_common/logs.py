"""One line an event, `key=value`, on standard error with systemd's priority prefix.

Nothing that a sender says can forge a line.

Log on the edge, not on the level: one line when a state is entered and one when it is left, with counts.
"""

import logging
import os
import sys

from telemetry_common.text import printable

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def fields(event: str, **values: object) -> str:
    """`event key=value ...`; values with blanks, quotes or `=` are quoted, control characters escaped."""
    return " ".join([event, *(f"{key}={_quoted(value)}" for key, value in values.items() if value is not None)])


def _quoted(value: object) -> str:
    text = printable(f"{value:.3f}" if isinstance(value, float) else str(value))
    if text and not any(c in text for c in ' "='):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _JournalFormatter(logging.Formatter):
    """`<4>text`, one priority prefix per physical line, so that a traceback keeps its level in the journal."""

    def __init__(self, *, prefix: bool) -> None:
        super().__init__("%(message)s" if prefix else "%(asctime)s %(levelname)s %(message)s")
        self._prefix = prefix

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self._prefix:
            return text
        priority = f"<{_PRIORITY.get(record.levelno, 6)}>"
        return "\n".join(priority + line for line in text.splitlines())


def setup(level: str) -> None:
    """Send everything to standard error; with journald at the other end (JOURNAL_STREAM), in its notation."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JournalFormatter(prefix="JOURNAL_STREAM" in os.environ))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    # It logs a traceback for each request that is no HTTP; what matters of a request is logged by who answers it.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def set_level(level: str) -> None:
    """From now on; what `setup` quietened stays so."""
    logging.getLogger().setLevel(level.upper())
