"""How `sbcctl` asks the daemon: HTTP on the control socket, one line on the producers' socket."""

import http.client
import socket
from typing import Any

import msgspec

from telemetry_common.text import printable

FINE, NEEDS_A_LOOK, NO_DAEMON = 0, 1, 2
ANSWER_SECONDS = 10.0
MAX_LINE = 1 << 20
MAX_ANSWER = 256 << 20
"""The daemon bounds what it says; this is for what is not the daemon."""


class CannotAsk(Exception):
    """Fit to be shown as it is. `code` is the exit code: NO_DAEMON where nobody answered as expected."""

    def __init__(self, words: str, code: int = NO_DAEMON) -> None:
        super().__init__(words)
        self.code = code


def ask(path: str, target: str, kind: Any, method: str = "GET") -> Any:
    """What the daemon at the control socket says, as `kind`. Raises CannotAsk."""
    return decoded(ask_raw(path, target, method), kind)


def ask_raw(path: str, target: str, method: str = "GET") -> bytes:
    connection = _UnixConnection(path)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        body = response.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise no_daemon(path, error) from None
    finally:
        connection.close()
    if response.status != http.client.OK:
        words = printable(body.decode("utf-8", "replace"))
        code = NEEDS_A_LOOK if response.status in (http.client.NOT_FOUND, http.client.CONFLICT) else NO_DAEMON
        raise CannotAsk(words, code)
    return body


def decoded(raw: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise CannotAsk(f"cannot read the daemon's answer ({error}): is it another version than this sbcctl?") from None


def say(path: str, line: bytes) -> bytes:
    """One line to the producers' socket, and the line that comes back. Raises CannotAsk."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(path)
            connection.sendall(line)
            with connection.makefile("rb") as answers:
                answer = answers.readline(MAX_LINE)
        except OSError as error:
            raise no_daemon(path, error) from None
    if not answer:
        raise CannotAsk(f"cannot get an answer at {path}: the daemon closed the connection")
    return answer


def no_daemon(path: str, error: Exception) -> CannotAsk:
    cure: dict[type[Exception], str] = {
        FileNotFoundError: "is sbc-daemon running? (systemctl status sbc-daemon)",
        ConnectionRefusedError: "is sbc-daemon running? (systemctl status sbc-daemon)",
        PermissionError: "be root or a member of group sbc",
        TimeoutError: f"no answer within {ANSWER_SECONDS:g} s (journalctl -u sbc-daemon)",
    }
    return CannotAsk(f"cannot reach the daemon at {path}: {cure.get(type(error), error)}")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
