"""A power cut brings back at most what the hub knows by its number: never a message that a later one has overtaken."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sbc_daemon.outbox import Outbox
from sbc_daemon.outbox_loose import Loose
from sbc_daemon.outbox_sqlite import SqliteOutbox
from testbed.memory_disk import MemoryDisk
from testbed.memory_outbox import MemoryOutbox
from tests.support.messages import message, progress
from tests.support.virtual_clock import VirtualClock

Story = Callable[[Outbox], Awaitable[None]]


async def deliver(outbox: Outbox, job: str = "job-1") -> None:
    entry = await outbox.first(job)
    assert entry is not None
    await outbox.delivered(entry)


async def states_said_together(outbox: Outbox) -> None:
    await outbox.keep([message(1), message(2)], [], synced=True)
    await deliver(outbox)
    await deliver(outbox)


async def a_state_and_progress(outbox: Outbox) -> None:
    await outbox.keep([message(1)], [], synced=True)
    await deliver(outbox)
    await outbox.keep([progress(2)], [], synced=False)
    await deliver(outbox)


async def progress_whose_answer_was_lost(outbox: Outbox) -> None:
    """The hub has it, for all that is known; what replaces it is delivered."""
    await outbox.keep([progress(1)], [], synced=True)
    assert await outbox.first("job-1") is not None
    await outbox.keep([progress(2)], [], synced=False)
    await deliver(outbox)


STORIES: list[Story] = [states_said_together, a_state_and_progress, progress_whose_answer_was_lost]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_only_the_last_message_comes_back(story: Story) -> None:
    disk = MemoryDisk()
    outbox = MemoryOutbox(disk=disk)
    await outbox.open()
    await story(outbox)
    disk.power_cut()
    again = MemoryOutbox(disk=disk)
    await again.open()
    entry = await again.first("job-1")
    assert entry is None or entry.message.seq == 2


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_the_outbox_on_disk_syncs_in_between(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fdatasync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    outbox = SqliteOutbox(tmp_path, 1 << 20, VirtualClock())
    await outbox.open()
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    await story(outbox)
    await outbox.close()
    assert synced == [str(tmp_path / "outbox.db-wal")]


async def test_one_sync_is_enough_for_all_jobs() -> None:
    loose = Loose()
    for job in ("a", "b", "c"):
        loose.sent(job)
    loose.removed(["a", "b"])
    loose.replaced(["b", "c", "d"])
    assert [job in loose for job in "abcd"] == [True, True, True, False]
    loose.synced()
    assert not any(job in loose for job in "abcd")
    loose.replaced(["a", "c"])
    assert [job in loose for job in "ac"] == [False, True], "what is under way stays so"
