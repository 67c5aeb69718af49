"""Many senders at once on plain sockets, each with a job of its own, and what each was told."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

RETRY_SECONDS = 0.02


class Sender:
    """One message after the other, each until it is answered 204, over a connection that it renews where it breaks.

    `answered` is the last `seq` that a 204 was for.
    """

    def __init__(self, port: int, job_id: str, outcomes: Counter[str]) -> None:
        self._port = port
        self._job_id = job_id
        self._outcomes = outcomes
        self.answered = 0

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                self._outcomes["connection refused"] += 1
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._outcomes["connected"] += 1
            try:
                while await self._post(reader, writer):
                    pass
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
            await asyncio.sleep(RETRY_SECONDS)

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection can be used again."""
        seq = self.answered + 1
        body = f'{{"status":"running","seq":{seq},"bytes_transferred":{seq}}}'
        writer.write(
            f"POST /api/v1/telemetry/backup/{self._job_id} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
            )
            await reader.readexactly(length)
        except asyncio.IncompleteReadError as cut:
            self._outcomes["cut off in an answer" if cut.partial else "closed without an answer"] += 1
            return False
        except OSError:
            self._outcomes["reset without an answer"] += 1
            return False
        status = head[9:12].decode()
        self._outcomes[status] += 1
        if status == "204":
            self.answered = seq
        return b"connection: close" not in head.lower()


class Load:
    """`outcomes` counts status codes, and what happened to connections."""

    def __init__(self, port: int, senders: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.senders = {name: Sender(port, name, self.outcomes) for name in (f"job-{n:03}" for n in range(senders))}

    @asynccontextmanager
    async def on(self) -> AsyncIterator[None]:
        """They report while the block runs, and are cut off in the middle of a word at its end."""
        tasks = [asyncio.create_task(sender.run()) for sender in self.senders.values()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def answered(self) -> dict[str, int]:
        """The last `seq` of each job that was answered 204."""
        return {job_id: sender.answered for job_id, sender in self.senders.items()}

    async def outcome(self, name: str) -> None:
        """Until it has happened to somebody."""
        async with asyncio.timeout(30):
            while not self.outcomes[name]:
                await asyncio.sleep(0.01)

    async def answers(self, count: int) -> None:
        """Until so many more have been answered 204."""
        wanted = self.outcomes["204"] + count
        async with asyncio.timeout(30):
            while self.outcomes["204"] < wanted:
                await asyncio.sleep(0.01)
