"""Producers that report a change of state once a second, and how long each waits for its confirmation.

    python -m benchmarks.bystanders SOCKET PRODUCERS SECONDS

Prints the median and the 99th percentile in ms, from when a change was due to its confirmation.
"""

import asyncio
import statistics
import sys
from collections.abc import AsyncIterator

EVERY_SECONDS = 1.0


async def main() -> None:
    path, producers, seconds = sys.argv[1:]
    begin = asyncio.get_running_loop().time() + 0.5
    starts = [begin + number * EVERY_SECONDS / int(producers) for number in range(int(producers))]
    found = await asyncio.gather(
        *(_producer(path, f"bystander-{number}", start, float(seconds)) for number, start in enumerate(starts))
    )
    waits = [wait for each in found for wait in each]
    print(statistics.median(waits) * 1e3, statistics.quantiles(waits, n=100)[-1] * 1e3)


async def _producer(path: str, job: str, start: float, seconds: float) -> list[float]:
    reader, writer = await asyncio.open_unix_connection(path)
    await _report(reader, writer, job, "snapshot")
    waits = [wait async for wait in _waits(reader, writer, job, start, start + seconds)]
    writer.close()
    return waits


async def _waits(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, job: str, start: float, end: float
) -> AsyncIterator[float]:
    time, due = asyncio.get_running_loop().time, start
    while due < end:
        await asyncio.sleep(due - time())
        await _report(reader, writer, job, f"at {due}")
        yield time() - due
        due += EVERY_SECONDS


async def _report(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, job: str, phase: str) -> None:
    writer.write(f'{{"job_id":"{job}","status":"running","current_phase":"{phase}","ack":1}}\n'.encode())
    if b'"ok":true' not in await reader.readline():
        sys.exit("a change of state was not confirmed; the figures of this run would mean nothing")


if __name__ == "__main__":
    asyncio.run(main())
