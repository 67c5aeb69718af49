"""`sbcctl dead-letters`: list, show, retry and delete. What it says of them is in `sbcctl_views`."""

import argparse
import json

from sbc_daemon import sbcctl_views as views
from sbc_daemon.config import SidecarSettings
from sbc_daemon.sbcctl_ask import FINE, NEEDS_A_LOOK, CannotAsk, ask, ask_raw, decoded
from sbc_daemon.status import Changed, Letter

_TARGET = "/dead-letters"
_ABOUT = """\
Messages that the hub refused for good: malformed for it, or of a job that it has not known for a day. They are kept,
within a quarter of the outbox's cap, until somebody decides.

retry   send them again, once what was wrong is mended (an older hub, a missing job). They keep their place in time:
        newer news at the hub stays, a job's end that it does not have is taken. Refused again, it is a letter again.
delete  forget them for good.

Anybody who may ask the daemon may list and show them; retry and delete are for root and the daemon's own user.
"""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    letters = commands.add_parser(
        "dead-letters",
        help="messages that the hub refused for good",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = letters.add_subparsers(required=True, metavar="list | show | retry | delete")
    listing = actions.add_parser("list", parents=[common], help="one line each, with the hub's reason")
    listing.add_argument("--json", action="store_true", help="all of them with their bodies, for programs")
    listing.set_defaults(act=_list)
    show = actions.add_parser("show", parents=[common], help="one of them, with its body")
    show.add_argument("letter_id", metavar="ID", type=int)
    show.add_argument("--json", action="store_true", help="for programs")
    show.set_defaults(act=_show)
    for name, act, words in (("retry", _retry, "have them sent again"), ("delete", _delete, "forget them for good")):
        action = actions.add_parser(
            name, parents=[common], help=words, usage=f"sbcctl dead-letters {name} [options] (ID ... | --all)"
        )
        action.add_argument("letter_ids", metavar="ID", type=int, nargs="*", default=[])
        action.add_argument("--all", action="store_true", help="every one that there is")
        action.set_defaults(act=act, complain=action.error)


def _list(arguments: argparse.Namespace, sidecar: SidecarSettings) -> int:
    raw = ask_raw(sidecar.socket.control, _TARGET)
    letters = decoded(raw, list[Letter])
    print(json.dumps(json.loads(raw)) if arguments.json else views.letters(letters))
    return NEEDS_A_LOOK if letters else FINE


def _show(arguments: argparse.Namespace, sidecar: SidecarSettings) -> int:
    raw = ask_raw(sidecar.socket.control, f"{_TARGET}/{arguments.letter_id}")
    letter = decoded(raw, Letter)
    print(json.dumps(json.loads(raw)) if arguments.json else views.letter(letter))
    return FINE


def _retry(arguments: argparse.Namespace, sidecar: SidecarSettings) -> int:
    return _change(arguments, sidecar, "POST", "/retry", "sent again; `sbcctl status` shows what the hub says of them")


def _delete(arguments: argparse.Namespace, sidecar: SidecarSettings) -> int:
    return _change(arguments, sidecar, "DELETE", "", "deleted")


def _change(arguments: argparse.Namespace, sidecar: SidecarSettings, method: str, suffix: str, done: str) -> int:
    """One after the other, so that a number without a letter does not keep the others from it."""
    wanted: list[int] = list(dict.fromkeys(arguments.letter_ids))
    if bool(wanted) is arguments.all:
        arguments.complain("name the letters (ID ...), or --all")
    targets = [_TARGET + suffix] if arguments.all else [f"{_TARGET}/{letter_id}{suffix}" for letter_id in wanted]
    count, problems = 0, []
    for target in targets:
        try:
            changed: Changed = ask(sidecar.socket.control, target, Changed, method)
        except CannotAsk as error:
            if error.code != NEEDS_A_LOOK:
                raise
            problems.append(str(error))
        else:
            count += len(changed.letter_ids)
    print(views.changed(count, done))
    for problem in problems:
        print(problem)
    return NEEDS_A_LOOK if problems else FINE
