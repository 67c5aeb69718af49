"""How the operator's commands end: their exit codes, and errors in one place."""

import argparse
import sys
from collections.abc import Callable

from sha_daemon.config import HubSettings
from sha_daemon.database import DatabaseAway, DatabaseError
from sha_daemon.hub_client import HubUnreachable
from sha_daemon.identifiers import BadName
from sha_daemon.job_creation import CannotCreate
from sha_daemon.mariadb_errors import NotAllowed
from telemetry_common.text import printable

OK = 0
NO = 1
UNREACHABLE = 2

Command = Callable[[HubSettings, argparse.Namespace], int]


def complain(message: str) -> None:
    print(f"shactl: {printable(message)}", file=sys.stderr)


def answered(command: Command) -> Command:
    """`command`, its errors as one line on standard error and an exit code."""

    def run(settings: HubSettings, chosen: argparse.Namespace) -> int:
        try:
            return command(settings, chosen)
        except NotAllowed as error:
            complain(str(error))
            complain("`db` commands and `job create` run as whoever calls them: setup and migrate need root")
            return UNREACHABLE
        except (DatabaseAway, HubUnreachable, BadName) as error:
            complain(str(error))
            return UNREACHABLE
        except (DatabaseError, CannotCreate) as error:
            complain(str(error))
            return NO

    return run
