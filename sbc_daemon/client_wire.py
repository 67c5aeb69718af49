"""The producer's end of the socket: lines out, answers in, and nothing ever waits. Standard library only."""

import json
import os
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

DEFAULT_SOCKET = "/run/sbc-daemon/progress.sock"
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
MAX_LINE_BYTES = 64 << 10
"""What the sidecar takes for one line, the newline included."""

Fields = dict[str, Any]
"""What one line says; `disks` maps an index to what is said about that disk."""


def socket_path(given: str | None = None) -> str:
    """Where the sidecar listens: what was given, else SBC_SOCKET, else the usual place."""
    return given or os.environ.get("SBC_SOCKET") or DEFAULT_SOCKET


def lines(fields: Fields) -> list[bytes]:
    """`fields` as lines of the socket: one, or more where it names too many disks (the last carries all the rest)."""
    rest = _json({name: said for name, said in fields.items() if name != "disks"})
    disks = [_json({"disk_index": number, **said}) for number, said in fields.get("disks", {}).items()]
    *earlier, last = _grouped(disks, MAX_LINE_BYTES - len(rest) - len(_DISKS % b"")) or [[]]
    job = _json({"job_id": fields["job_id"]})
    return [*(_line(job, group) for group in earlier), _line(rest, last)]


_DISKS = b',"disks":[%s]}\n'


def _line(body: bytes, disks: list[bytes]) -> bytes:
    return body[:-1] + _DISKS % b",".join(disks) if disks else body + b"\n"


def _json(said: Fields) -> bytes:
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _grouped(pieces: list[bytes], most: int) -> list[list[bytes]]:
    """In their order, each group at most so many bytes with the commas between; a piece that is longer stands alone."""
    groups: list[list[bytes]] = []
    size = 0
    for piece in pieces:
        if not groups or size + len(piece) + 1 > most:
            groups.append([])
            size = 0
        groups[-1].append(piece)
        size += len(piece) + 1
    return groups


def merged(older: Fields, newer: Fields) -> Fields:
    """Both as one, the newer winning; disk by disk."""
    result = {**older, **newer}
    disks = {number: dict(said) for number, said in older.get("disks", {}).items()}
    for number, said in newer.get("disks", {}).items():
        disks.setdefault(number, {}).update(said)
    if disks:
        result["disks"] = disks
    return result


def unsaid(known: Fields, later: Fields) -> Fields:
    """Of what is known that which the later says nothing about; disk by disk."""
    result = {name: said for name, said in known.items() if name != "disks" and name not in later}
    changed = later.get("disks", {})
    disks = {number: unsaid(said, changed.get(number, {})) for number, said in known.get("disks", {}).items()}
    disks = {number: said for number, said in disks.items() if said}
    return {**result, "disks": disks} if disks else result


def ended_so(answer: Fields, said: Fields) -> bool:
    """Whether the job had ended already in the very way that was said: what the first saying is told when its answer
    got lost and it is repeated."""
    disks = said.get("disks", {}).values()
    return answer.get("ended") in {status for one in (said, *disks) if (status := one.get("status"))}


class Wire:
    """A connection that is expected to fail: never blocks, remembers a half-sent line, waits longer before each try."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._out = b""
        self._in = b""
        self._pause = FIRST_PAUSE_SECONDS
        self._next_try = 0.0

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def idle(self) -> bool:
        return not self._out

    def pause_seconds(self) -> float:
        return self._next_try - time.monotonic()

    def try_now(self) -> None:
        """There is little time left: the next try need not wait for its pause."""
        self._next_try, self._pause = 0.0, FIRST_PAUSE_SECONDS

    def connect(self) -> bool:
        """True if a new connection has just been made."""
        if self._socket is not None or time.monotonic() < self._next_try:
            return False
        new = _connected(self._path)
        if new is None:
            self._postpone()
            return False
        self._socket, self._out, self._in = new, b"", b""
        return True

    def put(self, more: list[bytes]) -> None:
        self._out += b"".join(more)

    def flush(self) -> bool:
        """True when everything put so far has left and more may be put."""
        while self._out and self._socket is not None:
            try:
                sent = self._socket.send(self._out, socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self._lost()
                return False
            self._out = self._out[sent:]
        return self._socket is not None

    def received(self) -> Iterator[Fields]:
        """The sidecar's answers so far. An answer proves a working sidecar: the pauses start small again."""
        while self._socket is not None:
            try:
                data = self._socket.recv(1 << 16)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                data = b""
            if not data or len(self._in) > 1 << 16:
                self._lost()
                break
            *whole, self._in = (self._in + data).split(b"\n")
            self._pause = FIRST_PAUSE_SECONDS
            yield from filter(None, map(_answer, whole))

    def register(self, poll: select.poll) -> None:
        if self._socket is not None:
            poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._out else 0))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _lost(self) -> None:
        self.close()
        self._out = b""
        self._postpone()

    def _postpone(self) -> None:
        self._next_try = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)


def _connected(path: str) -> socket.socket | None:
    """None where nobody listens, nobody accepts, or this process has no descriptor left."""
    try:
        new = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError:
        return None
    try:
        new.connect(path)
    except (OSError, ValueError):
        new.close()
        return None
    return new


def _answer(line: bytes) -> Fields | None:
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and isinstance(answer.get("ack"), int) else None
