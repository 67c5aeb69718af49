"""Jobs that live with a process: real processes and real kills, both ways of holding one."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from msgspec import UNSET

from sbc_daemon.processes import Peer, PidfdProcesses, Unattachable
from tests.support.reporting import Desk, Producer, desk

CHILD = """
import json, socket, sys
connection = None
for command in sys.stdin:
    if command == "exit\\n":
        break
    if command == "hang up\\n":
        connection.close()
        connection = None
        continue
    if connection is None:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(sys.argv[1])
    connection.sendall(command.encode())
    if '"ack"' in command:
        connection.recv(1000)
    print("done", flush=True)
"""


class Child:
    """A process of its own that reports as it is told."""

    def __init__(self, path: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", CHILD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid

    def tell(self, command: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    async def say(self, line: str) -> None:
        """Have it write `line`; returns once it has (and, with an ack, has been answered)."""
        assert self._process.stdout
        self.tell(line)
        await asyncio.to_thread(self._process.stdout.readline)

    def say_and_exit(self, line: str) -> None:
        """It writes `line` and is gone before this returns; the event loop does not turn meanwhile."""
        self.tell(line)
        self.tell("exit")
        self._process.wait(10)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def close(self) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            stream.close()


@pytest.fixture(params=[True, False], ids=["SO_PEERPIDFD", "pidfd_open"])
async def counter(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    async with desk(tmp_path, PidfdProcesses(peer_pidfd=request.param)) as made:
        yield made


@pytest.fixture
def start(counter: Desk) -> Iterator[Callable[[], Child]]:
    children: list[Child] = []

    def one() -> Child:
        children.append(Child(counter.path))
        return children[-1]

    yield one
    for child in children:
        child.close()


def error_of(counter: Desk, job_id: str = "j1") -> str | None:
    last = counter.last(job_id)
    return last.error.message if last and last.error else None


async def test_a_killed_producer_fails_its_job_within_two_seconds(counter: Desk, start: Callable[[], Child]) -> None:
    child = start()
    await child.say('{"job_id":"j1","attach":true,"status":"running","ack":1}')
    child.kill()
    await counter.until(lambda: counter.status() == "failed", 2.0)
    assert error_of(counter) == f"backup process (pid {child.pid}) ended without reporting an outcome"


async def test_every_message_of_an_attached_job_says_how_long_it_was_silent(
    counter: Desk, start: Callable[[], Child]
) -> None:
    child = start()
    await child.say('{"job_id":"j1","attach":true,"status":"running","ack":1}')
    await child.say('{"status":"completed","ack":2}')
    silences = [message.update.idle_seconds for message in counter.outbox.kept]
    assert len(silences) >= 2
    assert UNSET not in silences


async def test_an_end_written_before_the_exit_is_not_a_death(counter: Desk, start: Callable[[], Child]) -> None:
    child = start()
    await child.say('{"job_id":"j1","attach":true,"ack":1}')
    child.say_and_exit('{"status":"completed"}')
    await counter.until(lambda: counter.status() in {"completed", "failed"})
    assert counter.status() == "completed"


async def test_an_end_reported_by_another_process_before_the_death_stands(
    counter: Desk, start: Callable[[], Child]
) -> None:
    shell, helper = start(), start()
    await shell.say('{"job_id":"j1","attach":true,"ack":1}')
    helper.say_and_exit('{"job_id":"j1","status":"completed"}')
    shell.kill()
    await counter.until(lambda: counter.status() in {"completed", "failed"})
    assert counter.status() == "completed"


async def test_figures_written_before_a_death_are_in_the_last_message(
    counter: Desk, start: Callable[[], Child]
) -> None:
    child = start()
    await child.say('{"job_id":"j1","attach":true,"bytes_transferred":1,"ack":1}')
    child.say_and_exit('{"bytes_transferred":77}')
    await counter.until(lambda: counter.status() == "failed")
    last = counter.last()
    assert last
    assert last.bytes_transferred == 77


async def test_every_unfinished_job_of_a_dead_process_fails_and_no_other(
    counter: Desk, start: Callable[[], Child]
) -> None:
    child, other = start(), start()
    await other.say('{"job_id":"others","attach":true,"ack":1}')
    await child.say('{"job_id":"done","attach":true,"status":"completed","ack":1}')
    await child.say('{"job_id":"j1","attach":true,"ack":1}')
    await child.say('{"job_id":"j2","attach":true,"ack":1}')
    child.kill()
    await counter.until(lambda: counter.status("j1") == counter.status("j2") == "failed")
    assert (counter.status("done"), counter.status("others")) == ("completed", "running")


async def test_one_dead_process_of_two_fails_its_disk_and_the_job_when_the_other_is_done(
    counter: Desk, start: Callable[[], Child]
) -> None:
    dying, living = start(), start()
    await dying.say('{"job_id":"j1","attach":{"disks":[0],"of":2},"ack":1}')
    await living.say('{"job_id":"j1","attach":{"disks":[1],"of":2},"ack":1}')
    dying.kill()
    await counter.until(lambda: "failed" in disk_statuses(counter))
    assert (counter.status(), disk_statuses(counter)) == ("running", {"failed"})
    await living.say('{"job_id":"j1","status":"completed","ack":2}')
    assert (counter.status(), disk_statuses(counter)) == ("failed", {"failed", "completed"})
    assert f"(pid {dying.pid})" in (error_of(counter) or "")


def disk_statuses(counter: Desk) -> set[object]:
    last = counter.last()
    return {disk.status for disk in last.disks if disk.status} if last and last.disks else set()


async def test_hanging_up_is_no_death_but_a_kill_afterwards_is(counter: Desk, start: Callable[[], Child]) -> None:
    child = start()
    await child.say('{"job_id":"j1","attach":true,"ack":1}')
    child.tell("hang up")
    await counter.until(lambda: [message.reason for message in counter.outbox.kept].count("heartbeat") >= 2)
    assert counter.status() == "running"
    child.kill()
    await counter.until(lambda: counter.status() == "failed", 2.0)


async def test_a_process_named_by_its_pidfd_needs_no_connection(counter: Desk, start: Callable[[], Child]) -> None:
    shell = start()
    pidfd = os.pidfd_open(shell.pid)
    producer = await Producer.connect(counter.path)
    await asyncio.to_thread(send_with, producer.socket, b'{"job_id":"j1","attach":true,"ack":1}\n', pidfd)
    assert await producer.heard() == {"ack": 1, "ok": True}
    await producer.close()
    assert counter.attachments.pids("j1") == (shell.pid,)
    shell.kill()
    await counter.until(lambda: counter.status() == "failed", 2.0)
    assert f"(pid {shell.pid})" in (error_of(counter) or "")


async def test_a_descriptor_belongs_to_the_line_it_came_with(counter: Desk, start: Callable[[], Child]) -> None:
    shell = start()
    producer = await Producer.connect(counter.path)
    producer.say(job_id="own", attach=True)
    await producer.drain()
    send_with(producer.socket, b'{"job_id":"shells","attach":true,"ack":1}\n', os.pidfd_open(shell.pid))
    await producer.heard()
    assert counter.attachments.pids("own") == (os.getpid(),)
    assert counter.attachments.pids("shells") == (shell.pid,)
    await producer.close()


async def until_open(count: int) -> None:
    """Wait until so many descriptors are open: foreign ones are closed on a thread."""
    async with asyncio.timeout(10):
        while open_descriptors() != count:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("line", ['{"job_id":"j1","attach":true,"ack":1}', '{"job_id":"j1","ack":1}', '{"ack":1}'])
async def test_descriptors_that_are_no_use_are_closed(counter: Desk, line: str) -> None:
    producer = await Producer.connect(counter.path)
    await producer.ask(hello=1)
    before = open_descriptors()
    for _ in range(30):
        send_with(producer.socket, line.encode() + b"\n", os.open("/dev/null", os.O_RDONLY))
        assert (await producer.heard())["ack"] == 1
    await until_open(before)
    await producer.close()


async def test_descriptors_of_a_line_that_never_ends_take_one_place_at_most(counter: Desk) -> None:
    producer = await Producer.connect(counter.path)
    await producer.ask(hello=1)
    before = open_descriptors()
    for _ in range(30):
        send_with(producer.socket, b" ", os.open("/dev/null", os.O_RDONLY))
    for _ in range(100):
        await asyncio.sleep(0)  # each turn of the loop reads one piece
    await until_open(before + 1)
    await producer.close()


async def test_a_producer_that_cannot_be_attached_is_named_once_per_job_not_per_line(
    counter: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    producer = await Producer.connect(counter.path)
    for _ in range(30):
        send_with(producer.socket, b'{"job_id":"j1","attach":true,"ack":1}\n', os.open("/dev/null", os.O_RDONLY))
        await producer.heard()
    assert caplog.text.count("job goes on unattached") == 1
    await producer.close()


async def test_a_pidfd_of_a_process_that_has_ended_already_is_a_death(
    counter: Desk, start: Callable[[], Child]
) -> None:
    """As of a script that ended while the daemon was not there to read its line."""
    shell = start()
    pidfd = os.pidfd_open(shell.pid)
    shell.kill()
    producer = await Producer.connect(counter.path)
    send_with(producer.socket, b'{"job_id":"j1","attach":true,"ack":1}\n', pidfd)
    assert (await producer.heard())["ok"]
    await counter.until(lambda: counter.status() == "failed", 2.0)
    last = counter.last()
    assert last is not None
    assert last.error
    assert last.error.message == "backup process ended without reporting an outcome"
    await producer.close()


async def test_a_script_that_ended_well_while_nobody_read_has_not_died(
    counter: Desk, start: Callable[[], Child]
) -> None:
    """Its two lines came over two connections; both are read before the verdict."""
    shell = start()
    pidfd = os.pidfd_open(shell.pid)
    shell.kill()
    first, second = [await Producer.connect(counter.path) for _ in range(2)]
    send_with(first.socket, b'{"job_id":"j1","status":"running","attach":true}\n', pidfd)
    second.say(job_id="j1", status="completed")
    await counter.until(lambda: counter.status() in ("completed", "failed"))
    assert counter.status() == "completed"
    for producer in (first, second):
        await producer.close()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def send_with(connection: socket.socket, data: bytes, descriptor: int) -> None:
    """Write `data` with the descriptor, which is closed here."""
    with socket.socket(fileno=os.dup(connection.fileno())) as sender:
        socket.send_fds(sender, [data], [descriptor])
    os.close(descriptor)


def test_a_foreign_pid_namespace_cannot_be_attached_to() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(Unattachable, match="another PID namespace"):
        PidfdProcesses().behind(Peer(0, 0, ours))


def test_the_older_way_trusts_a_pid_only_while_the_connection_is_open() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        held = PidfdProcesses(peer_pidfd=False).behind(Peer(0, os.getpid(), ours))
        assert not held.ended()
        held.close()
        theirs.close()
        with pytest.raises(Unattachable, match="hung up"):
            PidfdProcesses(peer_pidfd=False).behind(Peer(0, os.getpid(), ours))
