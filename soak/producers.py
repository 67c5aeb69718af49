"""Fifty backups at a time over a few connections, as a process of its own: `python -m soak.producers ...`.

They say each change of state until it is acknowledged, and progress in between; when standard input ends, they finish
the jobs they have begun, write their ledger and go.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from soak.ledger import Book, End, Ledger, job_name

STEP_BYTES = 1_000_000
RECONNECT_SECONDS = 0.02
AT_ONCE = 50


class Channel:
    """One connection, made anew whenever it breaks. What is unanswered is then said again, in its order."""

    def __init__(self, path: str, ledger: Ledger) -> None:
        self._path = path
        self._ledger = ledger
        self._writer: asyncio.StreamWriter | None = None
        self._unanswered: dict[str, tuple[bytes, asyncio.Future[dict[str, Any]]]] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            with suppress(OSError):
                reader, self._writer = await asyncio.open_unix_connection(self._path)
                self._ledger.connections += 1
                for line, _ in list(self._unanswered.values()):
                    self._writer.write(line)
                await self._listen(reader)
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while raw := await reader.readline():
            if raw.endswith(b"\n"):
                answer = json.loads(raw)
                _, future = self._unanswered.pop(answer["ack"], (b"", None))
                if future is not None and not future.done():
                    future.set_result(answer)

    def say(self, line: dict[str, Any]) -> None:
        """Once; whether it arrives is nobody's business."""
        self._ledger.lines += 1
        if self._writer is not None:
            self._writer.write(_encoded(line))

    async def ask(self, line: dict[str, Any], ack: str) -> dict[str, Any]:
        """Until it is answered."""
        self._ledger.lines += 1
        data, future = _encoded(line | {"ack": ack}), asyncio.get_running_loop().create_future()
        self._unanswered[ack] = data, future
        begun = time.monotonic()
        if self._writer is not None:
            self._writer.write(data)
        answer: dict[str, Any] = await future
        self._ledger.slowest_ack_seconds = max(self._ledger.slowest_ack_seconds, time.monotonic() - begun)
        return answer


class Backup:
    """One job from its first line to its end."""

    def __init__(self, job_id: str, channel: Channel, ledger: Ledger, rng: random.Random) -> None:
        self._job_id = job_id
        self._channel = channel
        self._ledger = ledger
        self._random = rng
        self._steps = rng.randint(3, 8)
        self._total = self._steps * STEP_BYTES
        self._book = ledger.jobs[job_id] = Book(disks=rng.choice((0, 0, 2)))

    async def run(self) -> None:
        for number in range(self._steps):
            await self._enter(f"phase-{number}", number * STEP_BYTES)
            for part in range(1, self._random.randint(1, 4)):
                await asyncio.sleep(self._random.uniform(0.02, 0.2))
                self._progress(f"phase-{number}", number * STEP_BYTES + part * STEP_BYTES // 10)
            await asyncio.sleep(self._random.uniform(0.02, 0.2))
        await self._end(f"phase-{self._steps - 1}")

    async def _enter(self, phase: str, moved: int) -> None:
        self._book.phases.append(phase)
        line = self._line(phase, moved) | {"status": "running", "current_phase": phase, "total_bytes": self._total}
        answer = await self._channel.ask(line, f"{self._job_id}/{phase}")
        if answer["ok"]:
            self._ledger.acks += 1
            self._book.acknowledged.append(phase)
        else:
            self._ledger.refused.append(f"{self._job_id} {phase}: {answer['error']}")

    def _progress(self, phase: str, moved: int) -> None:
        self._channel.say(self._line(phase, moved))

    async def _end(self, phase: str) -> None:
        status = self._random.choice(("completed",) * 7 + ("failed", "failed", "cancelled"))
        moved = self._total if status == "completed" else self._total - STEP_BYTES // 2
        error = f"disk {self._random.randrange(1000)} is gone" if status == "failed" else None
        end = self._book.end = End(status, moved, error)
        line = self._line(phase, moved) | {"status": status}
        if error is not None:
            line["error"] = {"message": error}
        answer = await self._channel.ask(line, f"{self._job_id}/end")
        # Who says an end again because its answer was lost learns from the refusal that it had arrived.
        if answer["ok"] or answer.get("ended") == status:
            self._ledger.acks += 1
            end.acknowledged = True
        else:
            self._ledger.refused.append(f"{self._job_id} end: {answer['error']}")

    def _line(self, phase: str, moved: int) -> dict[str, Any]:
        self._book.said.add((phase, moved))
        line: dict[str, Any] = {"job_id": self._job_id, "bytes_transferred": moved}
        if self._book.disks:
            halves = (moved // 2, moved - moved // 2)
            line["disks"] = [{"disk_index": n, "bytes_transferred": half} for n, half in enumerate(halves)]
        return line


async def produce(path: str, ledger: Ledger, seed: int, jobs: int, channels: int) -> None:
    """Until standard input ends, and the jobs begun by then have."""
    rng, over = random.Random(seed), asyncio.Event()
    asyncio.get_running_loop().run_in_executor(None, sys.stdin.read).add_done_callback(lambda _: over.set())
    lines = [Channel(path, ledger) for _ in range(channels)]
    running = [asyncio.create_task(line.run()) for line in lines]
    numbers = iter(range(jobs))

    async def one_after_the_other(channel: Channel) -> None:
        for number in _until(over, numbers):
            await Backup(job_name(number), channel, ledger, random.Random(f"{seed}/{number}")).run()

    await asyncio.gather(*(one_after_the_other(rng.choice(lines)) for _ in range(AT_ONCE)))
    for task in running:
        task.cancel()


def _until(over: asyncio.Event, numbers: Iterator[int]) -> Iterator[int]:
    for number in numbers:
        if over.is_set():
            return
        yield number


def _encoded(line: dict[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m soak.producers", description=__doc__)
    parser.add_argument("socket")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=10_000, help="at most so many")
    parser.add_argument("--connections", type=int, default=8)
    given = parser.parse_args()
    ledger = Ledger()
    asyncio.run(produce(given.socket, ledger, given.seed, given.jobs, given.connections))
    ledger.write(given.ledger)


if __name__ == "__main__":
    main()
