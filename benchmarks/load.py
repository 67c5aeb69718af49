"""The load: many senders over plain sockets, as cheap as Python can, so that what is measured is the other end.

    python -m benchmarks.load PORT --connections 64 --jobs 2000 --seconds 4 [--rate 1000] [--batch 100]

Without a rate each connection sends its next update when the last was answered. With one, updates are due at fixed
times and their latency counts from then on. Prints one JSON object.
"""

import argparse
import asyncio
import time

import msgspec
from msgspec import Struct

WARM_UP_SECONDS = 1.0
_HEAD = "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
_BODY = (
    '{"job_id":"%s","job_type":"backup","status":"running","current_phase":"transferring","bytes_transferred":%d,'
    '"total_bytes":109521739776,"transfer_speed_bps":125000000,"eta_seconds":512,"progress_percent":42.5,'
    '"disks":[{"disk_index":0,"bytes_transferred":%d,"total_bytes":102000000000,"status":"transferring",'
    '"progress_percent":42.1},{"disk_index":1,"bytes_transferred":2729228274,"total_bytes":7521739776,'
    '"status":"pending","progress_percent":0.0}],"error":null,"timestamp":"2025-10-10T14:23:45Z","seq":%d}'
)
"""The example of the contract, with what changes left open: job, its bytes, its disk's, seq."""


class Result(Struct, frozen=True, kw_only=True):
    """`updates_per_second` that were answered as they should; latencies in milliseconds, of requests."""

    updates_per_second: float
    refused: int
    p50_ms: float
    p99_ms: float


def job_name(number: int) -> str:
    return f"job-{number:06d}"


def body(job_id: str, seq: int) -> str:
    return _BODY % (job_id, seq % 10**15 * 100, seq % 10**15 * 90, seq)


class Sender(asyncio.Protocol):
    """One connection with jobs of its own. Its requests wait for each other."""

    def __init__(self, jobs: list[str], batch: int, seq: int) -> None:
        self._jobs = jobs
        self._batch = batch
        self._seq = seq
        self._next = 0
        self._due: list[float] = []
        self._since: float | None = None
        self._answer = b""
        self.stopped = False
        self.endless = False
        self.latencies: list[float] = []
        self.refused = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, due: float) -> None:
        """An update was due at this (monotonic) time; it goes out when the connection is free."""
        if self._since is not None:
            self._due.append(due)
            return
        self._since = due
        updates = [self._update() for _ in range(self._batch or 1)]
        path = "/api/v1/telemetry/batch" if self._batch else f"/api/v1/telemetry/backup/{self._last}"
        content = f'{{"updates":[{",".join(updates)}]}}' if self._batch else updates[0]
        self._transport.write((_HEAD.format(path=path, length=len(content)) + content).encode())  # type: ignore[attr-defined]

    def _update(self) -> str:
        self._last = self._jobs[self._next % len(self._jobs)]
        self._next += 1
        self._seq += 1
        return body(self._last, self._seq)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._complete():
            return
        status, whole, self._answer = self._answer[9:12], self._answer, b""
        now = time.perf_counter()
        self.latencies.append(now - (self._since or now))
        self._since = None
        if status != b"204" and not (status == b"200" and whole.count(b'"status":204') == self._batch):
            self.refused += 1
        if self._due:
            self.send(self._due.pop(0))
        elif self.endless and not self.stopped:
            self.send(now)

    def _complete(self) -> bool:
        head, blank, rest = self._answer.partition(b"\r\n\r\n")
        if not blank:
            return False
        if self._answer[9:12] == b"204":
            return True
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        return len(rest) >= length


async def run(port: int, connections: int, jobs: int, seconds: float, rate: float, batch: int) -> Result:
    """Connect, warm up, measure. A rate of 0 means as fast as answers come."""
    loop = asyncio.get_running_loop()
    seq = int(time.time() * 1e6)
    names = [job_name(number) for number in range(jobs)]
    senders = [Sender(names[first::connections], batch, seq) for first in range(connections)]
    for sender in senders:
        await loop.create_connection(lambda sender=sender: sender, "127.0.0.1", port)  # type: ignore[misc]
    if rate:
        await _paced(senders, rate, WARM_UP_SECONDS)
    else:
        for sender in senders:
            sender.endless = True
            sender.send(time.perf_counter())
        await asyncio.sleep(WARM_UP_SECONDS)
    for sender in senders:
        sender.latencies.clear()
    begun = time.perf_counter()
    await (_paced(senders, rate, seconds) if rate else asyncio.sleep(seconds))
    took = time.perf_counter() - begun
    latencies = sorted(latency for sender in senders for latency in sender.latencies)
    for sender in senders:
        sender.stopped = True
    await asyncio.sleep(0.3)
    return Result(
        updates_per_second=len(latencies) * (batch or 1) / took,
        refused=sum(sender.refused for sender in senders),
        p50_ms=latencies[len(latencies) // 2] * 1e3,
        p99_ms=latencies[len(latencies) * 99 // 100] * 1e3,
    )


async def _paced(senders: list[Sender], rate: float, seconds: float) -> None:
    begun = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = begun + number / rate
        wait = due - time.perf_counter()
        if wait > 0.001:
            await asyncio.sleep(wait)
        senders[number % len(senders)].send(due)
    await asyncio.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Load for a hub on this machine.")
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rate", type=float, default=0, help="updates per second in all; 0: as fast as answers come")
    parser.add_argument("--batch", type=int, default=0, help="updates in one request; 0: single posts")
    options = parser.parse_args()
    result = asyncio.run(
        run(options.port, options.connections, options.jobs, options.seconds, options.rate, options.batch)
    )
    print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
