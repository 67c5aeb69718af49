"""shactl: what an operator does on the hub. This file parses the command line; each group of commands has its own."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sha_daemon import shactl_db, shactl_hub, shactl_jobs, shactl_token, shactl_top
from sha_daemon.config import DEFAULT_PATH, PREFIX, HubSettings
from sha_daemon.shactl_answers import OK, UNREACHABLE
from telemetry_common import __version__
from telemetry_common.settings import SettingsError, load
from telemetry_common.text import printable

_EXITS = """exit codes:
  0  done, or the answer is yes
  1  the answer is no: not found, not migrated, not possible with what was given
  2  wrong usage or configuration, or the database or the hub cannot be reached
"""


class Parser(argparse.ArgumentParser):
    """Of shactl itself, and of every command: each takes the options that concern all of them."""

    def __init__(self, **words: Any) -> None:
        super().__init__(allow_abbrev=False, **words)
        self.add_argument(
            "--config",
            type=Path,
            default=argparse.SUPPRESS,
            metavar="FILE",
            help=f"configuration file (default: {DEFAULT_PATH})",
        )
        shactl_hub.add_options(self)


def parser() -> argparse.ArgumentParser:
    top = Parser(
        prog="shactl",
        description="Look after the telemetry hub: its database, the backup jobs it hears of, and who may ask it.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.set_defaults(config=Path(DEFAULT_PATH), token_file=None, certificate=None)
    top.add_argument("--version", action="version", version=f"shactl {__version__}")
    groups = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    shactl_db.add_commands(groups)
    shactl_jobs.add_commands(groups)
    shactl_top.add_commands(groups)
    shactl_token.add_commands(groups)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code. argparse itself ends the process with 2 on wrong usage."""
    chosen = parser().parse_args(arguments)
    try:
        settings = load(HubSettings, chosen.config, PREFIX, must_exist=chosen.config != Path(DEFAULT_PATH))
        code: int = chosen.command(settings, chosen)
        sys.stdout.flush()
    except SettingsError as error:
        print(f"shactl: {printable(str(error))}", file=sys.stderr)
        return UNREACHABLE
    except BrokenPipeError:
        # `shactl jobs | head`: nobody reads on, and that is no fault. What Python flushes at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return code
