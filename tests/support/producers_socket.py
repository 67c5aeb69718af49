"""The sidecar's end of the socket as a producer meets it: a real Unix socket that keeps lines and confirms them.

`python -m tests.support.producers_socket PATH` runs one as a process of its own, to be stopped and killed.
"""

import array
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class ProducersSocket:
    """`lines` in the order of arrival, `fds` what came along with them. `answers` decides what an `ack` is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[Line] = []
        self.fds: list[int] = []
        self.connections = 0
        self.answers: Callable[[Line], Line] = lambda _: {"ok": True}
        self._news = threading.Condition()
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def wait_for(self, wanted: Callable[[list[Line]], Any], seconds: float = 10.0) -> Any:
        """Until `wanted` finds something in the lines; what it found."""
        with self._news:
            assert self._news.wait_for(lambda: wanted(self.lines), seconds), f"only these came: {self.lines}"
            return wanted(self.lines)

    def wait_for_connections(self, count: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.connections >= count, 10)

    def values(self, field: str) -> list[Any]:
        """What the lines so far said about `field`, repetitions left out."""
        said = [line[field] for line in self.lines if field in line]
        return [value for position, value in enumerate(said) if position == 0 or said[position - 1] != value]

    def hang_up(self) -> None:
        """Close every connection, as a restart does; the address goes on listening."""
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        self.path.unlink(missing_ok=True)
        for descriptor in self.fds:
            os.close(descriptor)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                with self._news:
                    self.connections += 1
                    self._news.notify_all()
                threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        rest = b""
        with suppress(OSError), connection:
            while True:
                data, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(4))
                if not data:
                    return
                for _, _, passed in ancillary:
                    self.fds.extend(array.array("i", passed))
                *whole, rest = (rest + data).split(b"\n")
                for line in map(json.loads, whole):
                    self._take(connection, line)

    def _take(self, connection: socket.socket, line: Line) -> None:
        with self._news:
            self.lines.append(line)
            self._news.notify_all()
        if "ack" in line:
            answer = {"ack": line["ack"], **self.answers(line)}
            connection.sendall(json.dumps(answer).encode() + b"\n")


@contextmanager
def producers_socket(path: Path) -> Iterator[ProducersSocket]:
    listening = ProducersSocket(path)
    try:
        yield listening
    finally:
        listening.close()


if __name__ == "__main__":
    with producers_socket(Path(sys.argv[1])):
        print("listening", flush=True)
        sys.stdin.read()
