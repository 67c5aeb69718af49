"""A producer that writes lines as fast as they are taken: a process of its own, its lines made before it begins.

    python -m benchmarks.flood SOCKET KIND [LINES]

With a number of lines it prints how many were taken in a second, counted until the sidecar has confirmed the last one.
Without, it goes on until it is stopped.
"""

import itertools
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator

JOB = "backup-pgtest1-1728518400"
PIECE_BYTES = 1 << 20
_MIB = 1 << 20


def figures(number: int) -> str:
    """What a producer of the whole job writes."""
    return f'{{"job_id":"{JOB}","bytes_transferred":{number * _MIB}}}\n'


def disks(number: int) -> str:
    """What a producer of two disks writes."""
    each = ",".join(f'{{"disk_index":{disk},"bytes_transferred":{number * _MIB}}}' for disk in (0, 1))
    return f'{{"job_id":"{JOB}","disks":[{each}]}}\n'


def mixed(number: int) -> str:
    return disks(number) if number % 2 else figures(number)


def states(number: int) -> str:
    return f'{{"job_id":"{JOB}","current_phase":"phase {number % 7}"}}\n'


def bad(number: int) -> str:
    return "no JSON\n"


KINDS: dict[str, Callable[[int], str]] = {kind.__name__: kind for kind in (figures, disks, mixed, states, bad)}


def main() -> None:
    path, kind, *count = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        _say(connection, f'{{"job_id":"{JOB}","status":"running","total_bytes":{1 << 50},"ack":0}}\n')
        if count:
            print(_rate(connection, pieces(KINDS[kind], int(count[0])), int(count[0])))
        else:
            for piece in itertools.cycle(pieces(KINDS[kind], 50_000)):
                connection.sendall(piece)


def pieces(kind: Callable[[int], str], lines: int) -> list[bytes]:
    """So many lines, with figures that grow, in the pieces in which they are sent."""
    return list(_cut("".join(kind(number) for number in range(1, lines + 1)).encode()))


def _cut(whole: bytes) -> Iterator[bytes]:
    for start in range(0, len(whole), PIECE_BYTES):
        yield whole[start : start + PIECE_BYTES]


def _rate(connection: socket.socket, everything: Iterable[bytes], lines: int) -> float:
    begun = time.perf_counter()
    for piece in everything:
        connection.sendall(piece)
    _say(connection, '{"current_phase":"finalizing","ack":1}\n')
    return lines / (time.perf_counter() - begun)


def _say(connection: socket.socket, line: str) -> None:
    """And wait for the answer."""
    connection.sendall(line.encode())
    if b'"ok":true' not in connection.recv(4096):
        sys.exit("the line was not confirmed; the figures of this run would mean nothing")


if __name__ == "__main__":
    main()
