"""What SIGHUP does to a daemon: plain files are read again; of the settings it is said which need a restart.

What cannot be used is refused and what runs goes on: a slip of the pen in a file must not stop a daemon in service.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from telemetry_common.lifecycle import Lifecycle
from telemetry_common.logs import fields, set_level
from telemetry_common.settings import SettingsError, differing

log = logging.getLogger(__name__)

T = TypeVar("T", bound=msgspec.Struct)
LOG_LEVEL = "service.log_level"
"""The one setting that a running daemon takes over."""


class Reloader(Generic[T]):
    """Call it to reload. `parts`, by name: each reads its file again and returns what the journal should say of it.

    A part that cannot use its file raises SettingsError and goes on with what it has.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        status: Callable[[], str],
        running: T,
        read_settings: Callable[[], T],
        log_level: Callable[[T], str],
        parts: Mapping[str, Callable[[], str]],
    ) -> None:
        self._lifecycle = lifecycle
        self._status = status
        self._running = running
        self._log_level = log_level
        self._level = log_level(running)
        self._parts = {"settings": self._settings, **parts}
        self._read_settings = read_settings

    def __call__(self) -> None:
        """Tell systemd, read everything again, tell systemd. Never raises for what stands in a file."""
        self._lifecycle.reloading()
        try:
            for name, read_again in self._parts.items():
                _reload(name, read_again)
        finally:
            self._lifecycle.ready(self._status())

    def _settings(self) -> str:
        new = self._read_settings()
        level = self._log_level(new)
        if level != self._level:
            set_level(level)
            log.warning(fields("log level changed", before=self._level, now=level))
            self._level = level
        changed = [key for key in differing(self._running, new) if key != LOG_LEVEL]
        if changed:
            log.warning(fields("changed settings need a restart", keys=",".join(changed)))
        return f"{len(changed)} need a restart" if changed else "as they run"


def _reload(name: str, read_again: Callable[[], str]) -> None:
    try:
        log.info(fields("reloaded", what=name, now=read_again()))
    except SettingsError as error:
        log.error(fields("reload refused; what runs goes on", what=name, reason=error))
