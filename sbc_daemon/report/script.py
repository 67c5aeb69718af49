"""`sbc-report start|phase|progress|fail|done`: one line to the sidecar, in bounded time, at no risk to the script."""

import array
import contextlib
import json
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from sbc_daemon.client_wire import Fields, ended_so, lines, socket_path
from sbc_daemon.report.process import complain

CONNECT_SECONDS = 0.5
"""A sidecar that is stopped with a full backlog costs a script this much."""
ANSWER_SECONDS = 2.0
"""So long `start`, `done` and `fail` wait for the sidecar to have it safe on its disk."""
RETRY_SECONDS = 0.1


def report(fields: Fields, *, path: str | None = None, attach_pid: int | None = None, confirmed: bool = False) -> None:
    """Tell the sidecar; with `confirmed` wait for its word and, until then, try again. Never raises for its absence.

    `attach_pid` names the process whose life the job shares from now on. What could not be told is said on stderr.
    """
    address = socket_path(path)
    pidfd = None if attach_pid is None else _pidfd(attach_pid)
    said = {**fields, **({} if pidfd is None else {"attach": True}), **({"ack": 1} if confirmed else {})}
    deadline = time.monotonic() + (ANSWER_SECONDS if confirmed else 0.0)
    try:
        trouble = _tell(address, lines(said), pidfd, confirmed)
        while trouble is not None and trouble.again and time.monotonic() < deadline:
            time.sleep(RETRY_SECONDS)
            trouble = _tell(address, lines(said), pidfd, confirmed)
            if trouble is not None and ended_so(trouble.answer, fields):
                trouble = None  # the first try was heard, and only its answer was lost
    finally:
        if pidfd is not None:
            os.close(pidfd)
    if trouble is not None:
        complain(f"cannot report to {address}: {trouble}; the script goes on")


class Trouble(Exception):
    """Why the sidecar may not know it. `again`: nobody has answered; saying a line twice does no harm."""

    def __init__(self, text: str, *, again: bool, answer: Fields | None = None) -> None:
        super().__init__(text)
        self.again = again
        self.answer = answer or {}


def _tell(address: str, encoded: Sequence[bytes], pidfd: int | None, confirmed: bool) -> Trouble | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_SECONDS)
        try:
            connection.connect(address)
        except (OSError, ValueError) as error:
            return Trouble(f"{_cause(error)} (is sbc-daemon.socket running, and this user in group sbc?)", again=True)
        try:
            _send(connection, b"".join(encoded), pidfd)
            return _answered(connection) if confirmed else None
        except TimeoutError:
            return Trouble("no answer in time (is sbc-daemon running?); it will read this when it runs", again=False)
        except OSError as error:
            return Trouble(_cause(error), again=True)


def _send(connection: socket.socket, data: bytes, pidfd: int | None) -> None:
    if pidfd is None:
        connection.sendall(data)
        return
    rights = array.array("i", [pidfd])
    sent = connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    connection.sendall(data[sent:])


def _answered(connection: socket.socket) -> Trouble | None:
    """Raises TimeoutError when the answer does not come in time."""
    deadline = time.monotonic() + ANSWER_SECONDS
    received = b""
    while b"\n" not in received and len(received) < 1 << 16:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        data = connection.recv(1 << 12)
        if not data:
            return Trouble("the sidecar closed the connection without an answer", again=True)
        received += data
    answer = _decoded(received.partition(b"\n")[0])
    if answer.get("ok") is True:
        return None
    return Trouble(f"the sidecar refused it: {answer.get('error', 'no reason given')}", again=False, answer=answer)


def _decoded(line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        answer = json.loads(line)
        if isinstance(answer, dict):
            return answer
    return {}


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        complain(f"cannot attach to process {pid}: {_cause(error)}; its death will not be noticed")
        return None


def _cause(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
