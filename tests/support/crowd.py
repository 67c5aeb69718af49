"""Many senders at once, each with its job, reporting to several hubs in random order, twice now and then."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import aiohttp
from msgspec import Struct, field

MESSAGES = 50
DISK_BYTES = 1 << 30
TOTAL = 2 * DISK_BYTES


class Told(Struct):
    """What the hubs acknowledged of one job: numbers of messages, and the greatest bytes; `failed` counts 500s."""

    numbers: set[int] = field(default_factory=set)
    bytes_transferred: int = 0
    results: set[str] = field(default_factory=set)
    failed: int = 0


class Crowd:
    """Senders of `jobs`. Those with an even number say `seq`; the others do not, as in the field."""

    def __init__(self, jobs: Sequence[str], urls: Sequence[str], seed: int) -> None:
        self.told = {job: Told() for job in jobs}
        self.statuses: dict[int, int] = {}
        self.sent = 0
        self.refused = 0
        self._urls = urls
        self._random = random.Random(seed)

    async def speak(self) -> None:
        """Until every job has said all that it has to say."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as session:
            await asyncio.gather(*(self._report(session, job, place) for place, job in enumerate(self.told)))

    async def _report(self, session: aiohttp.ClientSession, job: str, place: int) -> None:
        """The end comes last, or, where numbers put all in order, anywhere for every other such job."""
        ordered, anywhere = place % 2 == 0, place % 4 == 0
        numbers = list(range(1, MESSAGES + anywhere))
        self._random.shuffle(numbers)
        for start in range(0, len(numbers), 4):
            posts = [number for number in numbers[start : start + 4] for _ in range(1 + (self._random.random() < 0.2))]
            await asyncio.gather(*(self._post(session, job, number, ordered) for number in posts))
        await asyncio.gather(*(self._post(session, job, MESSAGES, ordered) for _ in range(2)))

    async def _post(self, session: aiohttp.ClientSession, job: str, number: int, ordered: bool) -> None:
        """Again and again, to any hub, until one has it: 500, 503 and a hub that is gone are tried again."""
        body = message(number, ordered)
        while True:
            url = f"{self._random.choice(self._urls)}/api/v1/telemetry/backup/{job}"
            try:
                async with session.post(url, json=body) as answer:
                    self._note(job, number, body["bytes_transferred"], answer)
                    if answer.status not in (500, 503):
                        return
            except aiohttp.ClientConnectionError:
                self.refused += 1
            await asyncio.sleep(0.02)

    def _note(self, job: str, number: int, moved: int, answer: aiohttp.ClientResponse) -> None:
        self.sent += 1
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        told = self.told[job]
        told.failed += answer.status == 500
        if answer.status == 204:
            result = answer.headers.get("Telemetry-Result", "applied")
            told.numbers.add(number)
            told.results.add(result)
            if result == "applied":
                told.bytes_transferred = max(told.bytes_transferred, moved)


def message(number: int, ordered: bool) -> dict[str, Any]:
    """The `number`th of a job: everything grows with it, and the last one is the end."""
    moved = DISK_BYTES * number // MESSAGES
    body: dict[str, Any] = {
        "status": "completed" if number == MESSAGES else "running",
        "current_phase": "transferring",
        "bytes_transferred": 2 * moved,
        "total_bytes": TOTAL,
        "progress_percent": round(100 * number / MESSAGES, 2),
        "disks": [
            {"disk_index": index, "status": "transferring", "bytes_transferred": moved, "total_bytes": DISK_BYTES}
            for index in (0, 1)
        ],
    }
    return body | ({"seq": number} if ordered else {})
