"""The reference for the sidecar's lines: a bare asyncio protocol that splits what comes into lines and decodes each
into the same struct, does nothing with it, and confirms those that ask for it.

    python -m benchmarks.reference_protocol SOCKET
"""

import asyncio
import sys

import msgspec
from msgspec import UNSET

from telemetry_common.contract import Line

_decoder = msgspec.json.Decoder(Line)


class Bare(asyncio.Protocol):
    _transport: asyncio.Transport
    _rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for raw in lines:
            line = _decoder.decode(raw)
            if line.ack is not UNSET:
                self._transport.write(msgspec.json.encode({"ack": line.ack, "ok": True}) + b"\n")


async def main() -> None:
    server = await asyncio.get_running_loop().create_unix_server(Bare, sys.argv[1])
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
