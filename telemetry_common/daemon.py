"""The command that starts a daemon, the same for both: its options, its exit statuses, and how a signal stops it."""

import argparse
import asyncio
import faulthandler
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import msgspec

from telemetry_common import __version__, logs, settings
from telemetry_common.settings import SettingsError

log = logging.getLogger(__name__)

T = TypeVar("T", bound=msgspec.Struct)
_EPILOG = """exit status: 0 stopped as asked, 1 a part of the daemon died (systemd restarts it), 2 it cannot start:
the configuration, the command line or something that it names cannot be used. SIGHUP reads again what can change
while it runs, and names the settings that need a restart."""


@dataclass(frozen=True, kw_only=True)
class Program(Generic[T]):
    """`serve` runs until it is asked to stop; its second argument reads the settings again, as they are by then.

    `check`, for `--check`, looks at the files that the settings name, and returns what should be said of settings that
    can be used. Of the errors of both, `cannot_start` are the operator's to mend, beside SettingsError.
    """

    name: str
    description: str
    settings: type[T]
    default_path: str
    prefix: str
    log_level: Callable[[T], str]
    serve: Callable[[T, Callable[[], T]], Coroutine[Any, Any, None]]
    check: Callable[[T], Iterable[str] | None] = lambda _: None
    cannot_start: tuple[type[Exception], ...] = ()


def main(program: Program[T]) -> None:
    """Parse, load, and serve; or say what is wrong and leave with the status that means it."""
    options = parser(program).parse_args()
    cannot_start: tuple[type[Exception], ...] = (SettingsError, *program.cannot_start)
    try:
        named = options.config != Path(program.default_path)
        read = partial(settings.load, program.settings, options.config, program.prefix, must_exist=named)
        config = read()
        if options.show_config:
            print(settings.shown(config), end="")
        elif options.check:
            check(program, options.config, config)
        else:
            logs.setup(program.log_level(config))
            faulthandler.enable()  # systemd's watchdog sends SIGABRT: the journal then has where it hung
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it kills whoever does not listen for it
            asyncio.run(program.serve(config, read))
    except cannot_start as error:
        print(f"{program.name}: {error}", file=sys.stderr)
        sys.exit(2)
    except ExceptionGroup as deaths:
        for death in deaths.exceptions:
            log.critical("a part of the daemon died", exc_info=death)
        sys.exit(1)


def check(program: Program[T], path: Path, config: T) -> None:
    """Say on standard output that `config`, from `path`, can be used. Raises what `program.check` raises."""
    for warning in program.check(config) or ():
        print(f"{program.name}: warning: {warning}", file=sys.stderr)
    there = "" if path.exists() else " (no such file; defaults are used)"
    print(f"{program.name}: the configuration in {path}{there} can be used")


def parser(program: Program[T]) -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog=program.name, description=program.description, epilog=_EPILOG)
    default = Path(program.default_path)
    more = f"; conf.d/*.toml beside it and variables {program.prefix}_SECTION_KEY win"
    top.add_argument("--config", type=Path, default=default, help=f"configuration file (%(default)s){more}")
    top.add_argument("--check", action="store_true", help="validate the configuration and exit")
    top.add_argument("--show-config", action="store_true", help="print the effective configuration and exit")
    top.add_argument("--version", action="version", version=f"{program.name} {__version__}")
    return top


def stop_on_signal() -> asyncio.Event:
    """Set by SIGTERM and SIGINT. For the event loop that is running."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


@contextmanager
def on_hangup(reload: Callable[[], None]) -> Iterator[None]:
    """Call `reload` in the running event loop for each SIGHUP within the block; outside of it the signal is ignored.

    Not by the loop's own handler, which would leave the signal deadly for the moment between its end and the process's.
    """
    loop = asyncio.get_running_loop()
    over = False

    def hung_up(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(act)

    def act() -> None:
        if not over:  # else systemd would hear READY=1 behind STOPPING=1
            reload()

    signal.signal(signal.SIGHUP, hung_up)
    try:
        yield
    finally:
        over = True
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
