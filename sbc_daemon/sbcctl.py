"""`sbcctl`: what the operator on the client asks. Arguments and exit codes; `sbcctl_views` writes what is shown.

Starts fast: the standard library and msgspec only.
"""

import argparse
import http.client
import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from sbc_daemon import sbcctl_views as views
from sbc_daemon.config import DEFAULT_PATH, PREFIX, SidecarSettings
from sbc_daemon.status import Letter, Status
from telemetry_common import __version__, settings
from telemetry_common.contract import MAX_LINE_BYTES
from telemetry_common.text import printable

FINE, NEEDS_A_LOOK, NO_DAEMON = 0, 1, 2
ANSWER_SECONDS = 10.0
_ACK = "sbcctl"

_EPILOG = """\
exit codes: 0 all is well; 1 something needs a look (hub unreachable, messages held or refused, a line not taken);
2 the daemon cannot be asked.

examples:
  sbcctl status
  sbcctl status --json | python3 -m json.tool
  sbcctl send '{"job_id": "backup-vm1-1", "status": "running", "bytes_transferred": 1073741824}'
  sbcctl dead-letters list
  sbcctl dead-letters show 3
"""


class CannotAsk(Exception):
    """Fit to be shown as it is."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        sidecar = settings.load(
            SidecarSettings, arguments.config, PREFIX, must_exist=arguments.config != Path(DEFAULT_PATH)
        )
        code: int = arguments.act(arguments, sidecar)
    except (CannotAsk, settings.SettingsError) as error:
        print(f"sbcctl: {error}", file=sys.stderr)
        return NO_DAEMON
    except BrokenPipeError:
        return FINE
    return code


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
    status = commands.add_parser("status", parents=[common], help="jobs, outbox, hub link, last error")
    status.add_argument("--json", action="store_true", help="all of it, for programs")
    status.set_defaults(act=_status)
    send = commands.add_parser("send", parents=[common], help="report one line, and show whether it is safe on disk")
    send.add_argument("line", metavar="LINE", help="a JSON object, as a producer writes it to the progress socket")
    send.set_defaults(act=_send)
    letters = commands.add_parser("dead-letters", help="messages that the hub refused for good")
    actions = letters.add_subparsers(required=True, metavar="list | show ID")
    listing = actions.add_parser("list", parents=[common], help="one line each, with the hub's reason")
    listing.set_defaults(act=_list_letters)
    show = actions.add_parser("show", parents=[common], help="one of them, with its body")
    show.add_argument("letter_id", metavar="ID", type=int)
    show.set_defaults(act=_show_letter)
    return top


def _status(arguments: argparse.Namespace, sidecar: SidecarSettings) -> int:
    raw = _ask(sidecar, "/status")
    status = _decode(raw, Status)
    print(json.dumps(json.loads(raw)) if arguments.json else views.status(status))
    return NEEDS_A_LOOK if views.troubles(status) else FINE


def _list_letters(_arguments: argparse.Namespace, sidecar: SidecarSettings) -> int:
    letters = _decode(_ask(sidecar, "/dead-letters"), list[Letter])
    print(views.letters(letters))
    return NEEDS_A_LOOK if letters else FINE


def _show_letter(arguments: argparse.Namespace, sidecar: SidecarSettings) -> int:
    print(views.letter(_decode(_ask(sidecar, f"/dead-letters/{arguments.letter_id}"), Letter)))
    return FINE


def _send(arguments: argparse.Namespace, sidecar: SidecarSettings) -> int:
    answer = _say(sidecar.socket.path, _with_ack(arguments.line))
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


def _say(path: str, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(path)
            connection.sendall(line)
            with connection.makefile("rb") as answers:
                answer = answers.readline(1 << 20)
        except OSError as error:
            raise _no_daemon(path, error) from None
    if not answer:
        raise CannotAsk(f"cannot get an answer at {path}: the daemon closed the connection")
    return answer


def _ask(sidecar: SidecarSettings, target: str) -> bytes:
    path = sidecar.socket.control
    connection = _UnixConnection(path)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise _no_daemon(path, error) from None
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise CannotAsk(printable(body.decode("utf-8", "replace")))
    return body


def _no_daemon(path: str, error: Exception) -> CannotAsk:
    cure: dict[type[Exception], str] = {
        FileNotFoundError: "is sbc-daemon running? (systemctl status sbc-daemon)",
        ConnectionRefusedError: "is sbc-daemon running? (systemctl status sbc-daemon)",
        PermissionError: "be root or a member of group sbc",
        TimeoutError: f"no answer within {ANSWER_SECONDS:g} s (journalctl -u sbc-daemon)",
    }
    return CannotAsk(f"cannot reach the daemon at {path}: {cure.get(type(error), error)}")


def _decode(raw: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise CannotAsk(f"cannot read the daemon's answer ({error}): is it another version than this sbcctl?") from None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


if __name__ == "__main__":
    sys.exit(main())
