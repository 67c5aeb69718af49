"""Descriptors whose close waits: for a peer that does not read, for a file system that does not answer."""

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LINGER_SECONDS = 60


@contextmanager
def lingering_sockets(count: int) -> Iterator[list[socket.socket]]:
    """TCP sockets with unsent data, whose last close waits for as long as the peer does not read."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pairs = [_lingering(server) for _ in range(count)]
        try:
            yield [ours for ours, _ in pairs]
        finally:
            for ours, theirs in pairs:
                theirs.close()  # with bytes unread: a reset, behind which nothing lingers
                ours.close()


def _lingering(server: socket.socket) -> tuple[socket.socket, socket.socket]:
    ours = socket.create_connection(server.getsockname())
    theirs, _ = server.accept()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER_SECONDS))
    ours.setblocking(False)
    try:
        while True:
            ours.send(bytes(1 << 20))
    except BlockingIOError:
        return ours, theirs


def hand_over(connection: socket.socket, line: bytes, given: list[socket.socket]) -> None:
    """Send them with the line, and keep none."""
    socket.send_fds(connection, [line], [one.fileno() for one in given])
    for one in given:
        one.close()


_STUCK = """
import os, socket, struct, subprocess, sys
INIT, OPEN = 26, 14
point, path, line, count = sys.argv[1:]
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=100000,user_id=0,group_id=0"
subprocess.run(["mount", "-i", "-t", "fuse", "-o", options, "stuck", point], pass_fds=[device], check=True)
if os.fork() == 0:
    os.close(device)
    file = os.open(point, os.O_RDONLY)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    for _ in range(int(count)):
        socket.send_fds(connection, [line.encode()], [file])
    os.write(1, b"sent\\n")
    os._exit(0)  # closes the file, and waits for that
while True:
    request = os.read(device, 1 << 17)
    _, what, number, _ = struct.unpack_from("IIQQ", request)
    body = {INIT: struct.pack("IIII", 7, 31, 65536, 0).ljust(64, b"\\0"), OPEN: bytes(16)}.get(what)
    if body is not None:
        os.write(device, struct.pack("IiQ", 16 + len(body), 0, number) + body)
"""
_OF_ITS_OWN = ["unshare", "--map-root-user", "--mount", sys.executable, "-c", _STUCK]
"""In a mount namespace that goes with it; also for who is not root."""


@contextmanager
def stuck_files(directory: Path, path: str, line: bytes, count: int) -> Iterator[None]:
    """As many lines are sent, each with a file whose close waits until the end of the block: its file system's server
    knows how to open and nothing else."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this machine has no /dev/fuse for this user")
    point = directory / "stuck"
    point.touch()
    command = [*_OF_ITS_OWN, str(point), path, line.decode(), str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"sent\n"
            yield
        finally:
            server.kill()
