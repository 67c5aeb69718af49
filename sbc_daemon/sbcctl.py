"""`sbcctl`: what the operator on the client asks. Arguments and exit codes; `sbcctl_views` writes what is shown.

Starts fast: the standard library and msgspec only.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sbc_daemon import sbcctl_letters
from sbc_daemon import sbcctl_views as views
from sbc_daemon.config import DEFAULT_PATH, PREFIX, SidecarSettings
from sbc_daemon.doctor import diagnose
from sbc_daemon.doctor_finding import exit_code, told
from sbc_daemon.sbcctl_ask import FINE, NEEDS_A_LOOK, NO_DAEMON, CannotAsk, ask_raw, decoded, say
from sbc_daemon.status import Status
from telemetry_common import __version__, settings
from telemetry_common.contract import MAX_LINE_BYTES
from telemetry_common.text import printable

__all__ = ["FINE", "NEEDS_A_LOOK", "NO_DAEMON", "main", "parser"]

_ACK = "sbcctl"
_CLEAR = "\x1b[H\x1b[2J"

_EPILOG = """\
exit codes: 0 all is well; 1 something needs a look (hub unreachable, messages held or refused, a job that the hub has
ended otherwise, a line not taken); 2 the daemon cannot be asked, or a wrong command line. Of doctor: 1 a warning, 2
something fails.

examples:
  sbcctl status
  sbcctl status --watch
  sbcctl status --json | python3 -m json.tool
  sbcctl send '{"job_id": "backup-vm1-1", "status": "running", "bytes_transferred": 1073741824}'
  sbcctl dead-letters list
  sbcctl dead-letters show 3
  sbcctl dead-letters retry --all
  sbcctl doctor
"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    asked_for = arguments.config != Path(DEFAULT_PATH)
    try:
        if arguments.act is None:
            return _doctor(arguments, must_exist=asked_for)
        sidecar = settings.load(SidecarSettings, arguments.config, PREFIX, must_exist=asked_for)
        done: int = arguments.act(arguments, sidecar)
    except (CannotAsk, settings.SettingsError) as error:
        print(f"sbcctl: {error}", file=sys.stderr)
        return error.code if isinstance(error, CannotAsk) else NO_DAEMON
    except BrokenPipeError:
        return FINE
    return done


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="sbcctl",
        description="Look at the backup telemetry sidecar (sbc-daemon) of this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"sbcctl {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config", type=Path, default=Path(DEFAULT_PATH), metavar="PATH", help=f"default: {DEFAULT_PATH}"
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_status(commands, common)
    send = commands.add_parser("send", parents=[common], help="report one line, and show whether it is safe on disk")
    send.add_argument("line", metavar="LINE", help="a JSON object, as a producer writes it to the progress socket")
    send.set_defaults(act=_send)
    sbcctl_letters.add_to(commands, common)
    doctor = commands.add_parser(
        "doctor",
        parents=[common],
        help="is everything there that a report needs on its way to the hub? a line a check",
        description="Checks the way of a report from a producer to the hub, changes nothing, and says what to do. "
        "As root it can tell most. Exit codes: 0 all is well as far as could be told, 1 a warning, 2 something fails.",
    )
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.set_defaults(act=None)
    return top


def _add_status(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> None:
    status = commands.add_parser("status", parents=[common], help="jobs, outbox, hub link, last error")
    status.add_argument("--json", action="store_true", help="all of it, for programs; with --watch a line each time")
    status.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=2.0,
        metavar="SECONDS",
        help="look again and again until interrupted, every 2 s or as often as said",
    )
    status.set_defaults(act=_status)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("expected 0.1 to 3600 seconds")
    return seconds


def _status(arguments: argparse.Namespace, sidecar: SidecarSettings) -> int:
    if arguments.watch is None:
        shown, code = _look(arguments, sidecar)
        print(shown)
        return code
    try:
        while True:
            _show_anew(arguments, sidecar)
            time.sleep(arguments.watch)
    except KeyboardInterrupt:
        return FINE


def _look(arguments: argparse.Namespace, sidecar: SidecarSettings) -> tuple[str, int]:
    raw = ask_raw(sidecar.socket.control, "/status")
    status = decoded(raw, Status)
    shown = (
        json.dumps(json.loads(raw))
        if arguments.json
        else views.status(status, views.STYLED if _styled() else views.PLAIN)
    )
    return shown, NEEDS_A_LOOK if views.troubles(status) else FINE


def _show_anew(arguments: argparse.Namespace, sidecar: SidecarSettings) -> None:
    """A daemon that is away is looked for again: it may be just restarting."""
    try:
        shown = _look(arguments, sidecar)[0]
    except CannotAsk as problem:
        if arguments.json:
            raise
        shown = f"sbcctl: {problem}"
    if sys.stdout.isatty() and not arguments.json:
        shown = _CLEAR + views.fitting(shown, shutil.get_terminal_size().lines - 1)
    print(shown, flush=True)


def _styled() -> bool:
    """Plain where a program reads along, or where the user wants it so (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _doctor(arguments: argparse.Namespace, *, must_exist: bool) -> int:
    findings = diagnose(arguments.config, must_exist=must_exist)
    code = exit_code(findings)
    if arguments.json:
        print(json.dumps({"exit_code": code, "findings": msgspec.to_builtins(findings)}))
    else:
        print(told(findings))
    return code


def _send(arguments: argparse.Namespace, sidecar: SidecarSettings) -> int:
    answer = say(sidecar.socket.path, _with_ack(arguments.line))
    print(printable(answer.decode("utf-8", "replace").rstrip("\n")))
    try:
        said = msgspec.json.decode(answer)
    except msgspec.DecodeError:
        raise CannotAsk("cannot read the daemon's answer: it is not JSON") from None
    return FINE if isinstance(said, dict) and said.get("ok") is True else NEEDS_A_LOOK


def _with_ack(line: str) -> bytes:
    """Asks for an answer; one that the line itself asks for stays. A bad line goes as it is, to be refused there."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise CannotAsk("cannot send this line: it is not valid JSON") from None
    if not isinstance(value, dict):
        raise CannotAsk("cannot send this line: it is not a JSON object")
    asking = msgspec.json.encode({"ack": _ACK, **value}) + b"\n"
    if len(asking) > MAX_LINE_BYTES:
        raise CannotAsk(f"cannot send this line: it is longer than {MAX_LINE_BYTES} bytes")
    return asking


if __name__ == "__main__":
    sys.exit(main())
