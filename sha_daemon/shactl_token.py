"""shactl token create: a new token, shown once, and the line for the hub's file."""

import argparse
import secrets
from typing import Any

from sha_daemon import tokens
from sha_daemon.config import HubSettings
from sha_daemon.shactl_answers import OK, answered

RANDOM_BYTES = 32


def add_commands(groups: "argparse._SubParsersAction[Any]") -> None:
    group = groups.add_parser(
        "token", help="tokens for the hub's API", description="Make tokens that open the hub's API."
    )
    commands = group.add_subparsers(title="commands", required=True, metavar="COMMAND")
    create = commands.add_parser(
        "create",
        help="make a token",
        description="Make a token, print it, and print the line that lets the hub know it. Nothing is stored: put the "
        "line into the file of access.tokens_file, the token itself into a file where it is used.",
    )
    create.add_argument(
        "--name", type=_name, required=True, metavar="NAME", help="who will use it: letters, digits, ._@-"
    )
    create.add_argument(
        "--right", choices=list(tokens.RIGHTS), required=True, help="to send updates, to read jobs and figures, or both"
    )
    create.set_defaults(command=answered(_create))


def _create(settings: HubSettings, chosen: argparse.Namespace) -> int:
    token = tokens.PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    file = settings.access.tokens_file or "the file that access.tokens_file will name"
    print(f"token, shown this once:\n{token}\n")
    print(f"line for {file}:\n{tokens.line(chosen.name, chosen.right, token)}\n")
    print("then: systemctl reload sha-daemon" if settings.access.tokens_file else "then: systemctl restart sha-daemon")
    return OK


def _name(text: str) -> str:
    if not tokens.is_name(text):
        raise argparse.ArgumentTypeError("letters, digits and . _ @ - are expected, at most 64, the first no sign")
    return text
