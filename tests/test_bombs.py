"""Bodies that inflate without end: refused while they do, by a hub that does not grow."""

import asyncio
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sha_daemon.config import DatabaseSettings, HubSettings, host_and_port
from telemetry_common.contract import MAX_BODY_BYTES
from testbed.installation import hub_settings
from testbed.processes import Daemon
from tests.support.front_door import PATH, Answer, answer, request

pytestmark = pytest.mark.integration

AT_ONCE = 200
MAX_GROWTH_KIB = 160 << 10
"""For 200 GiB of zeros at once: what the 64 bodies of a mebibyte may take that are let in, beside what nobody reads."""


@pytest.fixture
def settings(tmp_path: Path) -> HubSettings:
    return hub_settings(DatabaseSettings(socket=str(tmp_path / "none.sock")))


@pytest.fixture
def hub(tmp_path: Path, settings: HubSettings) -> Iterator[Daemon]:
    """Without a database: what is refused does not come that far."""
    with Daemon("sha-daemon", tmp_path, settings) as running:
        yield running


def bomb(wbits: int) -> bytes:
    """A gibibyte of zeros in one stream under a mebibyte: one compressed stretch of them, again and again."""
    compress = zlib.compressobj(9, wbits=wbits)
    head = compress.compress(bytes(16 << 20)) + compress.flush(zlib.Z_FULL_FLUSH)
    again = compress.compress(bytes(16 << 20)) + compress.flush(zlib.Z_FULL_FLUSH)
    return head + again * 63


def peak_kib(daemon: Daemon) -> int:
    """The most memory it ever had resident."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15)])
async def test_bombs_are_refused_and_the_hub_does_not_grow(
    hub: Daemon, settings: HubSettings, encoding: str, wbits: int
) -> None:
    body = bomb(wbits)
    assert len(body) < MAX_BODY_BYTES
    host, port = host_and_port(settings.listen.address)

    async def throw() -> Answer:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request("POST", f"{PATH}/j1", {"Content-Encoding": encoding}, body))
        try:
            return await answer(reader)
        finally:
            writer.transport.abort()

    assert (await throw()).detail == "the body is over 1048576 bytes when it is decompressed"
    before = peak_kib(hub)
    answers = await asyncio.gather(*(throw() for _ in range(AT_ONCE)))
    assert {413} <= {refused.status for refused in answers} <= {413, 503}
    assert peak_kib(hub) - before < MAX_GROWTH_KIB
