"""The control socket, over a real Unix socket."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from sbc_daemon.control import BACKLOG, MAX_CONNECTIONS, ControlServer, bind
from sbc_daemon.outbox import DeadLetter
from sbc_daemon.status import Changed, HubState, JobState, Letter, OutboxState, Status
from tests.support.fixed_letters import FixedLetters

STATUS = Status(
    version="0.1.0",
    pid=4711,
    started_at=1_760_000_000.0,
    hub=HubState(url="http://127.0.0.1:8082", link="up", since_seconds=12.0),
    outbox=OutboxState(states=1, progress=2, samples=3, dead_letters=1, bytes_used=4096),
    counters={"delivered": 9},
    jobs=(JobState(job_id="j1", status="running", attached=True),),
)
LETTERS = [
    DeadLetter(letter_id=n, job_id=f"j{n}", seq=7, status=400, reason="400 no", at=1.0, body=b'{"a":"\xff"}')
    for n in (3, 5)
]


async def status() -> Status:
    return STATUS


@pytest.fixture
def letters() -> FixedLetters:
    return FixedLetters(LETTERS)


@pytest.fixture
async def path(tmp_path: Path, letters: FixedLetters) -> AsyncIterator[Path]:
    server = ControlServer(status, letters)
    await server.start(tmp_path / "control.sock")
    yield tmp_path / "control.sock"
    await server.close()
    assert not (tmp_path / "control.sock").exists()


async def get(path: Path, target: str, method: str = "GET") -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.request(method, "http://localhost" + target) as response,
    ):
        return response.status, await response.read()


async def test_status_is_what_the_daemon_says(path: Path) -> None:
    code, body = await get(path, "/status")
    assert code == 200
    assert msgspec.json.decode(body, type=Status) == STATUS


async def test_dead_letters_are_listed_and_shown(path: Path) -> None:
    _, listed = await get(path, "/dead-letters")
    _, shown = await get(path, "/dead-letters/3")
    letter, _ = msgspec.json.decode(listed, type=list[Letter])
    assert letter == msgspec.json.decode(shown, type=Letter)
    assert (letter.reason, letter.body) == ("400 no", '{"a":"\ufffd"}')


CHANGES = [
    ("POST", "/dead-letters/3/retry", ("retry", [3])),
    ("POST", "/dead-letters/retry", ("retry", None)),
    ("DELETE", "/dead-letters/3", ("delete", [3])),
    ("DELETE", "/dead-letters", ("delete", None)),
]


@pytest.mark.parametrize(("method", "target", "done"), CHANGES)
async def test_who_runs_the_daemon_may_change_its_dead_letters(
    path: Path, letters: FixedLetters, method: str, target: str, done: tuple[str, list[int] | None]
) -> None:
    code, body = await get(path, target, method)
    assert code == 200
    assert msgspec.json.decode(body, type=Changed).letter_ids == ((3, 5) if done[1] is None else (3,))
    assert letters.done == [(*done, os.geteuid())]


@pytest.mark.parametrize(("method", "target"), [change[:2] for change in CHANGES])
async def test_nobody_else_may_whoever_can_open_the_socket(
    tmp_path: Path, letters: FixedLetters, method: str, target: str
) -> None:
    server = ControlServer(status, letters, uid_of=lambda _: os.geteuid() + 4711)
    await server.start(tmp_path / "s")
    words = b"cannot change dead letters: only root and the daemon's own user may"
    assert await get(tmp_path / "s", target, method) == (403, words)
    assert (await get(tmp_path / "s", "/dead-letters"))[0] == 200
    assert letters.done == []
    await server.close()


async def test_the_kernel_says_who_asks(path: Path, letters: FixedLetters) -> None:
    """Who is root becomes somebody else to ask; anybody else can only be the daemon's own user."""
    with as_somebody_else(path) as stranger:
        stranger.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(stranger, b"DELETE /dead-letters HTTP/1.0\r\n\r\n")
        said = await loop.sock_recv(stranger, 4096)
    assert (b"403" in said.splitlines()[0]) is (os.geteuid() == 0)
    assert bool(letters.done) is (os.geteuid() != 0)


@contextmanager
def as_somebody_else(path: Path) -> Iterator[socket.socket]:
    """A connection of nobody's, where we may become that."""
    path.chmod(0o666)
    path.parent.chmod(0o755)
    uid = os.geteuid()
    with socket.socket(socket.AF_UNIX) as stranger, contextlib.chdir(path.parent):
        if uid == 0:
            os.seteuid(65534)
        try:
            stranger.connect(path.name)
        finally:
            os.seteuid(uid)
        yield stranger


@pytest.mark.parametrize(
    ("method", "target"), [("POST", "/dead-letters/4/retry"), ("DELETE", "/dead-letters/4"), ("GET", "/dead-letters/4")]
)
async def test_a_letter_that_is_not_there_is_said(path: Path, method: str, target: str) -> None:
    assert await get(path, target, method) == (404, b"there is no dead letter with the number 4")


async def test_a_letter_that_is_no_message_cannot_be_sent_again(path: Path, letters: FixedLetters) -> None:
    letters.unreadable = {3}
    code, words = await get(path, "/dead-letters/3/retry", "POST")
    assert code == 409
    assert words == b"cannot send dead letter 3 again: it cannot be read as a message; delete it"
    assert await get(path, "/dead-letters/retry", "POST") == (200, b'{"letter_ids":[5]}')


@pytest.mark.parametrize("target", ["/dead-letters/4", "/dead-letters/x", "/dead-letters/" + "9" * 30, "/", "/else"])
async def test_what_is_not_there_is_a_404(path: Path, target: str) -> None:
    assert (await get(path, target))[0] == 404


async def test_an_outbox_that_cannot_be_read_is_said(path: Path, letters: FixedLetters) -> None:
    letters.broken = True
    assert await get(path, "/dead-letters") == (503, b"cannot open the outbox")


def test_the_socket_is_for_its_owner_and_group(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o660
    assert [file.name for file in path.parent.iterdir()] == ["control.sock"]


async def test_a_socket_left_behind_is_replaced(tmp_path: Path, letters: FixedLetters) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(tmp_path / "s"))
    server = ControlServer(status, letters)
    await server.start(tmp_path / "s")
    assert (await get(tmp_path / "s", "/status"))[0] == 200
    await server.close()


async def test_systemds_socket_is_used_and_its_file_stays(tmp_path: Path, letters: FixedLetters) -> None:
    server = ControlServer(status, letters)
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


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_who_holds_connections_keeps_nobody_out_and_takes_few_descriptors(path: Path) -> None:
    before = open_descriptors()
    async with contextlib.AsyncExitStack() as held:
        for _ in range(4 * MAX_CONNECTIONS):
            _, writer = await asyncio.open_unix_connection(str(path))
            held.callback(writer.close)
        assert (await get(path, "/status"))[0] == 200
        ours = 4 * MAX_CONNECTIONS
        assert open_descriptors() <= before + ours + MAX_CONNECTIONS + BACKLOG
