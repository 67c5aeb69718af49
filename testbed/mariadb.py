"""A MariaDB server of our own: its own data directory and Unix socket, no network, gone when its owner is.

It reads no option file and knows no other server: one that runs on the machine already is never touched. Whoever runs
this is its administrator, by unix_socket authentication and without a password. Every commit is synced, as on a hub.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_MAX_SOCKET_PATH = 107
"""sun_path is 108 bytes, its closing zero included."""
_SMALL = (
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=16M",
    "--innodb-log-buffer-size=2M",
    "--key-buffer-size=64K",
    "--aria-pagecache-buffer-size=1M",
    "--performance-schema=OFF",
    "--skip-log-bin",
    "--max-connections=64",
)


class ServerFailed(Exception):
    """The server could not be made or started. Its text ends with the last lines of its log."""


class PrivateMariaDB:
    """A server in `directory`, which should be empty, or hold what an earlier one left: it starts again on its data.

    `with PrivateMariaDB(path) as server:` starts and stops it. The server dies with the thread that started it
    (PR_SET_PDEATHSIG), so that nothing stays behind when its owner is killed: start it from the main thread.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory.resolve()
        self.socket = self.directory / "mariadb.sock"
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self._data = self.directory / "data"
        self._log = self.directory / "mariadb.log"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        if len(os.fsencode(self.socket)) > _MAX_SOCKET_PATH:
            raise ServerFailed(
                f"cannot use {self.socket}: the path is too long for a Unix socket; choose a shorter one"
            )

    def __enter__(self) -> "PrivateMariaDB":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The server's process while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start on the data directory (made now if there is none) and return when it answers. Raises ServerFailed."""
        if self.pid is not None:
            return
        if not (self._data / "mysql").is_dir():
            self._install()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, process_group=0
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """A clean shutdown; a server that takes longer than a minute is killed."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """SIGKILL, as a power cut would end it; `start` recovers the data."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def connect(self, database: str | None = None, *, user: str | None = None) -> "Connection[Cursor]":
        """A connection in autocommit mode, the administrator's unless told otherwise.

        Raises OSError where nobody listens.
        """
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            channel.connect(str(self.socket))
        except OSError:
            channel.close()
            raise
        connection = pymysql.connect(
            unix_socket=str(self.socket),
            user=user or self.user,
            database=database,
            autocommit=True,
            charset="utf8mb4",
            defer_connect=True,
        )
        connection.connect(channel)
        return connection

    def new_database(self, name: str) -> str:
        """An empty database of that name, in place of the one that was there; returns the name."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
            cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        return name

    def _install(self) -> None:
        self._data.mkdir(parents=True, exist_ok=True)
        command = [
            *("mariadb-install-db", "--no-defaults", f"--datadir={self._data}", "--skip-test-db"),
            *("--auth-root-authentication-method=socket", f"--auth-root-socket-user={self.user}"),
            *("--skip-name-resolve", *_SMALL, *self._as_user()),
        ]
        status, said = _run_as_group(command)
        if status != 0:
            raise ServerFailed(f"cannot make a data directory in {self._data}:\n{said}"[-4000:])

    def _command(self) -> list[str]:
        return [
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *(_program(), "--no-defaults", *self._as_user(), f"--datadir={self._data}", f"--socket={self.socket}"),
            *(f"--pid-file={self.directory / 'mariadb.pid'}", f"--tmpdir={self._data}", "--skip-networking"),
            *("--innodb-flush-log-at-trx-commit=1", *_SMALL, *self._options),
        ]

    def _as_user(self) -> tuple[str, ...]:
        """mariadbd does not run as root unless it is told to; anybody else is not allowed to say."""
        return (f"--user={self.user}",) if os.geteuid() == 0 else ()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if self.pid is None:
                raise ServerFailed(f"cannot start mariadbd: it ended at once\n{self._last_log_lines()}")
            try:
                self.connect().close()
            except (OSError, pymysql.Error) as error:
                if time.monotonic() > deadline:
                    self.kill()
                    raise ServerFailed(f"cannot reach mariadbd: {error}\n{self._last_log_lines()}") from error
                time.sleep(0.02)
            else:
                return

    def _last_log_lines(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])


def _program() -> str:
    """Debian puts it in /usr/sbin, which is not in the PATH of an ordinary user. Raises ServerFailed."""
    found = shutil.which("mariadbd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ServerFailed("cannot find mariadbd; install the Debian package mariadb-server-core")
    return found


def _run_as_group(command: list[str]) -> tuple[int, str]:
    """Exit status and output of a command that starts others; when we are interrupted none of them lives on.

    The output ends only when all that could write to it are gone, and with them all that write to the data directory.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    )
    try:
        said, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return process.returncode, said
