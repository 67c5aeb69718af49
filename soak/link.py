"""The network between sidecar and hub: a relay that can be cut, in the ways that networks are cut."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Literal

Mode = Literal["open", "refused", "reset", "silent", "no answers"]
PARTITIONS: tuple[Mode, ...] = ("refused", "reset", "silent", "no answers")
"""Nobody listens; connections are reset as they come; bytes go nowhere; requests arrive and answers do not."""
_PIECE = 1 << 16


class Link:
    """A TCP port on 127.0.0.1 that leads to `target`, on a thread of its own."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._mode: Mode = "open"
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)
        self._thread.start()
        self.port = 0
        self.port = self._on_loop(self._listen())

    def set(self, mode: Mode) -> None:
        """From now on. Connections that were open are reset, but where silence falls: they stay, and nothing comes."""
        self._on_loop(self._set(mode))

    def close(self) -> None:
        self._on_loop(self._set("refused"))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _set(self, mode: Mode) -> None:
        before, self._mode = self._mode, mode
        if mode in ("refused", "reset") or before in ("silent", "no answers"):
            for writer in list(self._writers):
                writer.transport.abort()
        if mode == "refused" and self._server is not None:
            self._server.close()
            self._server = None
        elif mode != "refused" and self._server is None:
            await self._listen()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "reset":
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            with suppress(OSError):
                hub_reader, hub_writer = await asyncio.open_connection("127.0.0.1", self._target)
                self._writers.add(hub_writer)
                try:
                    await asyncio.gather(
                        self._pump(reader, hub_writer, "there"), self._pump(hub_reader, writer, "back")
                    )
                finally:
                    self._writers.discard(hub_writer)
                    hub_writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        """Until one end is done; then both are."""
        with suppress(OSError):
            while data := await reader.read(_PIECE):
                lost = self._mode == "silent" or (self._mode == "no answers" and way == "back")
                if not lost:
                    writer.write(data)
                    await writer.drain()
        writer.transport.abort()
