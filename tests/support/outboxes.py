"""Both outboxes for one suite: a new one on the same ground each time, as a restart has it; and the one on disk."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sbc_daemon.outbox import Outbox
from sbc_daemon.outbox_file import NAME
from sbc_daemon.outbox_sqlite import SqliteOutbox
from testbed.memory_disk import MemoryDisk
from testbed.memory_outbox import MemoryOutbox
from tests.support.balance import assert_balanced
from tests.support.messages import message, record
from tests.support.virtual_clock import VirtualClock

MIB = 1 << 20
Make = Callable[..., Outbox]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Call it for an outbox; its cap may be given."""
    disk = MemoryDisk()
    if request.param == "memory":
        return lambda max_bytes=MIB: MemoryOutbox(max_bytes, disk)
    return lambda max_bytes=MIB: SqliteOutbox(tmp_path / "state", max_bytes, VirtualClock())


@pytest.fixture
async def outbox(make: Make) -> AsyncIterator[Outbox]:
    """Opened; its books balance at the end."""
    opened = make()
    await opened.open()
    yield opened
    await assert_balanced(opened)
    await opened.close()


def sqlite_outbox(directory: Path) -> SqliteOutbox:
    return SqliteOutbox(directory, MIB, VirtualClock(wall=1_760_000_000.0))


async def written(directory: Path) -> Path:
    """A sound outbox with something in it; its file."""
    outbox = sqlite_outbox(directory)
    await outbox.open()
    await outbox.keep([message(n + 1, job=f"job-{n}") for n in range(50)], [record()], synced=True)
    await outbox.close()
    return directory / NAME
