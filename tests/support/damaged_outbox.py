"""A small outbox, damaged: what a start makes of it, and whether anything is told that was never said.

The whole sidecar starts on the files, in virtual time, with a hub that takes everything: some milliseconds a start.
"""

import asyncio
import json
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from sbc_daemon.app import Sidecar
from sbc_daemon.config import SidecarSettings
from sbc_daemon.outbox_file import NAME
from sbc_daemon.outbox_sqlite import SqliteOutbox
from sbc_daemon.processes import Peer
from sbc_daemon.state_directory import SIDE_FILES
from telemetry_common.lifecycle import Lifecycle
from tests.support.hub import Heard
from tests.support.no_processes import NoProcesses
from tests.support.scripted_hub import Post, ScriptedHub
from tests.support.virtual_clock import VirtualClock, run_virtual

T = TypeVar("T")
Files = Mapping[str, bytes]
"""By the end of their names: the database itself "", its log "-wal", the log's index "-shm"."""
Told = dict[str, list[dict[str, Any]]]
"""By job, the messages without their age."""

PAGE_BYTES = 512
"""The least that SQLite can: a small file that has every kind of page nevertheless."""
MAX_BYTES = 4 << 20
TOTAL = 8_888_888
NEW_BYTES = 777
LATER = 1_760_001_000.0
CHECK_SECONDS = 12.0
"""Of virtual time: two turns of the cadence."""


class Original(Struct):
    """A sound outbox, and what a start on it tells."""

    files: dict[str, bytes]
    told: Told


class Trial(Struct):
    """What became of one damage. `false` is what was told and never said; `failure` why the start was none."""

    moved_aside: bool = False
    told: int = 0
    letters: int = 0
    false: list[str] = field(default_factory=list)
    failure: str = ""


class InlineOutbox(SqliteOutbox):
    """Without its thread, so that it lives in virtual time."""

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return work()


class Life:
    """One life of a sidecar over `directory`."""

    def __init__(self, directory: Path, wall: float, *, hub_up: bool) -> None:
        self.clock = VirtualClock(wall)
        self.hub = ScriptedHub(self.clock.monotonic)
        self.hub.up = hub_up
        self.outbox = InlineOutbox(directory, MAX_BYTES, self.clock)
        self.acks: dict[int, bool] = {}
        self.sidecar: Sidecar

    def run(self, story: Callable[["Life"], Awaitable[None]]) -> None:
        run_virtual(self._run(story), self.clock)

    async def _run(self, story: Callable[["Life"], Awaitable[None]]) -> None:
        lifecycle = Lifecycle(Heard(), self.clock)
        self.sidecar = await Sidecar.opened(
            SidecarSettings(), self.clock, self.outbox, self.hub, NoProcesses(), lifecycle
        )
        async with self.sidecar.running(1.0):
            await story(self)
            await self.sidecar.finish()
        await self.sidecar.close()

    def say(self, **line: object) -> None:
        self.sidecar.converse(Peer(0, 1, None), self._answered).feed(json.dumps(line).encode() + b"\n")

    def _answered(self, data: bytes) -> None:
        self.acks |= {answer["ack"]: answer["ok"] for answer in map(json.loads, data.splitlines())}


def original(*, with_log: bool = False) -> Original:
    """Two jobs, one of which has ended: states that wait, progress, a sample, a dead letter. The log as a crash leaves
    it, with the last changes in it, where that is asked for."""
    with _directory() as directory:
        _small_pages(directory)
        Life(directory, LATER - 900, hub_up=False).run(_fill)
        files = _read(directory)
        if with_log:

            async def fill_more(life: Life) -> None:
                life.say(job_id="alpha", current_phase="finalizing", bytes_transferred=666)
                await asyncio.sleep(1)
                files.update(_read(directory))

            Life(directory, LATER - 500, hub_up=False).run(fill_more)
    return Original(files, _told(files))


def trial(files: Files, told: Told) -> Trial:
    """A start on these files, two lines of old jobs and one of a new one, and what the hub hears of all that."""
    result = Trial()
    with _directory() as directory:
        _write(directory, files)
        life = Life(directory, LATER, hub_up=True)
        try:
            life.run(lambda life: _live(life, result))
        except Exception as error:
            result.failure = _first(error)
            return result
        result.moved_aside = any("damaged" in file.name for file in directory.iterdir())
    result.told = len(life.hub.posts)
    result.false = [said for post in life.hub.posts if (said := _false(post, told))]
    if not life.acks.get(1) or 2 not in life.acks or all(post.job_id != "new" for post in life.hub.posts):
        result.failure = f"the new job was not taken: {life.acks}"
    return result


async def _live(life: Life, result: Trial) -> None:
    life.say(job_id="new", status="running", ack=1)
    life.say(job_id="alpha", bytes_transferred=NEW_BYTES, ack=2)
    life.say(job_id="gamma", bytes_transferred=NEW_BYTES, ack=3)
    await asyncio.sleep(CHECK_SECONDS)
    msgspec.json.encode(await life.sidecar.report())
    result.letters = len(await life.outbox.dead_letters())


async def _fill(life: Life) -> None:
    life.say(job_id="alpha", status="running", total_bytes=TOTAL, bytes_transferred=111)
    life.say(job_id="gamma", status="running", bytes_transferred=222)
    for moved in (333, 444):
        await asyncio.sleep(70)
        life.say(job_id="alpha", bytes_transferred=moved)
        await asyncio.sleep(6)
    entry = await life.outbox.first("gamma")
    assert entry is not None
    await life.outbox.reject(entry, 400, "no", 1.0)
    life.say(job_id="gamma", status="failed", error={"message": "no room"}, bytes_transferred=555)


def _told(files: Files) -> Told:
    with _directory() as directory:
        _write(directory, files)
        life = Life(directory, LATER, hub_up=True)
        life.run(lambda _: asyncio.sleep(CHECK_SECONDS))
    told: Told = {}
    for post in life.hub.posts:
        told.setdefault(post.job_id, []).append(_plain(post))
    assert sum(map(len, told.values())) >= 4, told
    return told


def _plain(post: Post) -> dict[str, Any]:
    fields = msgspec.to_builtins(post.update)
    return {key: value for key, value in fields.items() if key != "age_seconds"}


_MAY_SAY: dict[str, set[Any]] = {
    "status": {"running"},
    "bytes_transferred": {NEW_BYTES},
    "total_bytes": {TOTAL},
    "current_phase": {"finalizing"},
    "progress_percent": {0.0},
}
_DERIVED = {"job_id", "seq", "transfer_speed_bps", "eta_seconds"}


def _false(post: Post, told: Told) -> str:
    """The message, unless it was kept as it is, or says what this life was told, on top of what was kept or nothing."""
    said = _plain(post)
    if post.job_id == "new" or said in told.get(post.job_id, []):
        return ""
    old = post.job_id in ("alpha", "gamma") and said.keys() <= _MAY_SAY.keys() | _DERIVED
    true = old and all(said[key] in values for key, values in _MAY_SAY.items() if key in said)
    return "" if true else repr(said)


@contextmanager
def _directory() -> Iterator[Path]:
    """In memory, where no disk slows down ten thousand starts."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="outbox-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def _small_pages(directory: Path) -> None:
    with sqlite3.connect(directory / NAME) as connection:
        connection.executescript(
            f"PRAGMA page_size={PAGE_BYTES}; PRAGMA auto_vacuum=INCREMENTAL; CREATE TABLE t (t); DROP TABLE t;"
        )
    connection.close()


def _read(directory: Path) -> dict[str, bytes]:
    found = {suffix: directory / (NAME + suffix) for suffix in SIDE_FILES}
    return {suffix: file.read_bytes() for suffix, file in found.items() if file.exists()}


def _write(directory: Path, files: Files) -> None:
    for suffix, content in files.items():
        (directory / (NAME + suffix)).write_bytes(content)


def _first(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
