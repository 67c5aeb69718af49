"""The reference of the batch endpoint: the hub's own transactions in a loop on one connection, without HTTP.

    python -m benchmarks.reference_statements SOCKET USER DATABASE JOBS UPDATES_EACH SECONDS

Prints updates per second.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Sequence
from functools import partial

from benchmarks.load import body, job_name
from sha_daemon.batch import Arrival, Outcome, apply
from sha_daemon.config import DatabaseSettings
from sha_daemon.database import Session
from sha_daemon.mariadb import MariaDB
from telemetry_common.contract import decode_update


def _committed(arrivals: Sequence[Arrival], session: Session) -> list[Outcome]:
    return apply(session, arrivals, [], lambda listened_us: listened_us)


async def measure(settings: DatabaseSettings, jobs: int, each: int, seconds: float) -> float:
    database = MariaDB(settings)
    seqs = itertools.count(int(time.time() * 1e6))
    names = itertools.cycle([job_name(number) for number in range(jobs)])
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        arrivals = [_arrival(next(names), next(seqs)) for _ in range(each)]
        await database.run(partial(_committed, arrivals))
        done += each
    took = time.perf_counter() - begun
    await database.close()
    return done / took


def _arrival(job_id: str, seq: int) -> Arrival:
    return Arrival(job_id, decode_update(body(job_id, seq).encode()), time.time())


def main() -> None:
    socket, user, name, jobs, each, seconds = sys.argv[1:]
    settings = DatabaseSettings(name=name, user=user, socket=socket)
    print(asyncio.run(measure(settings, int(jobs), int(each), float(seconds))))


if __name__ == "__main__":
    main()
