"""What one `progress()` costs the program that calls it, in a process of its own.

    python -m benchmarks.producer_cost SOCKET CALLS [--until-full]

Prints the mean of a call in us, and the 99.9th percentile and the longest of as many calls that are timed singly. With
`--until-full` the sidecar is expected to take nothing, and it begins when the connection is full.
"""

import statistics
import sys
import time

from sbc_daemon.client import Job

DISKS = 1024
"""Their figures are some 60 KiB, so that a connection that nobody reads is full after a few flushes."""
PATIENCE_SECONDS = 60.0


def main() -> None:
    path, calls, *until_full = sys.argv[1:]
    job = Job("backup-cost-1", total_bytes=1 << 50, path=path, attach=False)
    if until_full:
        _fill(job)
    mean, slow, longest = _mean(job, int(calls)), *_tail(job, int(calls))
    print(mean, slow, longest)
    job.close(0.0)


def _mean(job: Job, calls: int) -> float:
    begun = time.perf_counter()
    for done in range(calls):
        job.progress(done)
    return (time.perf_counter() - begun) / calls * 1e6


def _tail(job: Job, calls: int) -> tuple[float, float]:
    took = []
    for done in range(calls):
        begun = time.perf_counter_ns()
        job.progress(done)
        took.append(time.perf_counter_ns() - begun)
    return statistics.quantiles(took, n=1000)[-1] / 1e3, max(took) / 1e3


def _fill(job: Job) -> None:
    """Say more than the connection holds, until nothing has left for a while."""
    wire = job._talk._wire
    deadline, full_since, done = time.monotonic() + PATIENCE_SECONDS, time.monotonic(), 0
    while time.monotonic() - full_since < 1.5:
        if time.monotonic() > deadline:
            sys.exit("the connection did not become full; the figures of this run would mean nothing")
        done += 1
        for disk in range(DISKS):
            job.progress(done, disk)
        time.sleep(0.1)
        if not job.connected or wire.idle():
            full_since = time.monotonic()


if __name__ == "__main__":
    main()
