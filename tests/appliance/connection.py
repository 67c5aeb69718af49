"""A producer's connection to the sidecar that is held open, written to and read from by hand."""

import json
import subprocess
from types import TracebackType

from tests.appliance.backup import USER
from tests.appliance.machines import SOCKET, Client
from tests.appliance.node import ENVIRONMENT


class Connection:
    """A producer's, held open: what is written goes to the progress socket, as it is."""

    def __init__(self, client: Client) -> None:
        argv = client.node.unit_argv("socat", "-t", "0.1", "-", f"UNIX-CONNECT:{SOCKET}", user=USER)
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, env=ENVIRONMENT, text=True, stdin=pipe, stdout=pipe)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._process:
            self.hang_up()

    def write(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def answer(self) -> object:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def hang_up(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
