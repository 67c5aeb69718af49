"""Run on a client: says line after line to the sidecar, each on a connection of its own, and counts.

    producer.py SOCKET JOB RESULT

Ends on SIGTERM, and then writes to RESULT how many were acknowledged, how many connections were refused, and
the last value that was acknowledged. A line whose answer was cut off is said again.
"""

import json
import signal
import socket
import sys
import time
from pathlib import Path


def main() -> None:
    path, job_id, result = sys.argv[1:]
    counts = {"acknowledged": 0, "refused": 0, "unanswered": 0, "last": 0}
    going = [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    while going:
        value = counts["last"] + 1
        line = {"job_id": job_id, "status": "running", "bytes_transferred": value, "ack": value}
        try:
            answer = _say(path, json.dumps(line).encode() + b"\n")
        except OSError:
            counts["refused"] += 1
            continue
        if json.loads(answer or b"{}") == {"ack": value, "ok": True}:
            counts["acknowledged"] += 1
            counts["last"] = value
        else:
            counts["unanswered"] += 1
        time.sleep(0.02)
    Path(result).write_text(json.dumps(counts))


def _say(path: str, line: bytes) -> bytes:
    """What came back; nothing where the other side hung up. Raises OSError where nobody takes the connection."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(path)
        try:
            sock.sendall(line)
            return sock.recv(4096)
        except ConnectionError:
            return b""


if __name__ == "__main__":
    main()
