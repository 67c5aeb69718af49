"""The control socket, over a real Unix socket."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from sbc_daemon.control import BACKLOG, ControlServer, bind
from sbc_daemon.outbox import DeadLetter, OutboxFull
from sbc_daemon.status import HubState, JobState, Letter, OutboxState, Status

STATUS = Status(
    version="0.1.0",
    pid=4711,
    started_at=1_760_000_000.0,
    hub=HubState(url="http://127.0.0.1:8082", link="up", since_seconds=12.0),
    outbox=OutboxState(states=1, progress=2, samples=3, dead_letters=1, bytes_used=4096),
    counters={"delivered": 9},
    jobs=(JobState(job_id="j1", status="running", attached=True),),
)
LETTERS = [DeadLetter(letter_id=3, job_id="j1", seq=7, status=400, reason="400 no", at=1.0, body=b'{"a":"\xff"}')]


class Daemon:
    """What the control server asks."""

    broken = False

    async def status(self) -> Status:
        return STATUS

    async def dead_letters(self) -> list[DeadLetter]:
        if self.broken:
            raise OutboxFull("cannot open the outbox")
        return LETTERS


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
async def path(tmp_path: Path, daemon: Daemon) -> AsyncIterator[Path]:
    server = ControlServer(daemon.status, daemon.dead_letters)
    await server.start(tmp_path / "control.sock")
    yield tmp_path / "control.sock"
    await server.close()
    assert not (tmp_path / "control.sock").exists()


async def get(path: Path, target: str) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.get("http://localhost" + target) as response,
    ):
        return response.status, await response.read()


async def test_status_is_what_the_daemon_says(path: Path) -> None:
    code, body = await get(path, "/status")
    assert code == 200
    assert msgspec.json.decode(body, type=Status) == STATUS


async def test_dead_letters_are_listed_and_shown(path: Path) -> None:
    _, listed = await get(path, "/dead-letters")
    _, shown = await get(path, "/dead-letters/3")
    (letter,) = msgspec.json.decode(listed, type=list[Letter])
    assert letter == msgspec.json.decode(shown, type=Letter)
    assert (letter.reason, letter.body) == ("400 no", '{"a":"\ufffd"}')


@pytest.mark.parametrize("target", ["/dead-letters/4", "/dead-letters/x", "/dead-letters/" + "9" * 30, "/", "/else"])
async def test_what_is_not_there_is_a_404(path: Path, target: str) -> None:
    assert (await get(path, target))[0] == 404


async def test_an_outbox_that_cannot_be_read_is_said(path: Path, daemon: Daemon) -> None:
    daemon.broken = True
    assert await get(path, "/dead-letters") == (503, b"cannot open the outbox")


def test_the_socket_is_for_its_owner_and_group(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o660
    assert [file.name for file in path.parent.iterdir()] == ["control.sock"]


async def test_a_socket_left_behind_is_replaced(tmp_path: Path, daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(tmp_path / "s"))
    server = ControlServer(daemon.status, daemon.dead_letters)
    await server.start(tmp_path / "s")
    assert (await get(tmp_path / "s", "/status"))[0] == 200
    await server.close()


async def test_systemds_socket_is_used_and_its_file_stays(tmp_path: Path, daemon: Daemon) -> None:
    server = ControlServer(daemon.status, daemon.dead_letters)
    await server.start(tmp_path / "elsewhere", inherited=bind(tmp_path / "theirs"))
    assert (await get(tmp_path / "theirs", "/status"))[0] == 200
    await server.close()
    assert (tmp_path / "theirs").exists()
    assert not (tmp_path / "elsewhere").exists()


async def test_out_of_descriptors_it_complains_no_more_often_than_its_small_backlog(path: Path) -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    with socket.socket(socket.AF_UNIX) as operator, no_descriptors_left():
        operator.connect(str(path))
        while not complaints:
            await asyncio.sleep(0)
    assert set(complaints) == {"socket.accept() out of system resource"}
    assert len(complaints) <= BACKLOG


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY)]
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    try:
        while True:
            taken.append(os.dup(taken[0]))
    except OSError:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in taken:
            os.close(descriptor)
