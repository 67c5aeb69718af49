"""Descriptors whose close waits, sent along to the real sidecar: they are their sender's trouble and nobody else's."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sbc_daemon.foreign import MAX_THREADS, MAX_WAITING
from tests.support.lingering import hand_over, lingering_sockets, stuck_files
from tests.support.reporting import Producer as Reporter
from tests.support.reporting import desk
from tests.support.survival import SECONDS, Producer, Sidecar, running

pytestmark = pytest.mark.integration
ATTACHING = b'{"job_id":"j1","status":"running","attach":true,"ack":1}\n'
OTHERS_SECONDS = 1.0


@pytest.fixture(params=[1536, 0], ids=["kept", "no store"])
def sidecar(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Sidecar]:
    with running(tmp_path, capacity=request.param) as made:
        yield made


def others_go_on(sidecar: Sidecar) -> None:
    """A change of state by somebody else is acknowledged at once, several times, and a pidfd taken."""
    with Producer(sidecar) as other:
        for phase in ("snapshot", "transferring", "verifying"):
            asked = time.monotonic()
            assert other.ask(job_id="other", current_phase=phase, ack=phase)["ok"]
            assert time.monotonic() - asked < OTHERS_SECONDS


def logged(sidecar: Sidecar, message: str) -> None:
    """Wait until the daemon has said it."""
    deadline = time.monotonic() + SECONDS
    while message not in sidecar.daemon.log():
        assert time.monotonic() < deadline, sidecar.daemon.last_lines()
        time.sleep(0.02)


def pidfds_are_taken(sidecar: Sidecar) -> None:
    with Producer(sidecar) as other:
        pidfd = os.pidfd_open(os.getpid())
        socket.send_fds(other.socket, [b'{"job_id":"held","attach":true,"ack":2}\n'], [pidfd])
        os.close(pidfd)
        assert other.heard()["ok"]
    assert sidecar.jobs()["held"]["pids"] == [os.getpid()]


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("line", [ATTACHING, b'{"job_id":"j1","ack":1}\n'], ids=["attaching", "of no use"])
def test_a_socket_that_lingers_keeps_nobody_waiting(sidecar: Sidecar, line: bytes, count: int) -> None:
    with lingering_sockets(count) as given, Producer(sidecar) as producer:
        hand_over(producer.socket, line, given)
        assert producer.heard() == {"ack": 1, "ok": True}
        others_go_on(sidecar)
        asked = time.monotonic()
        assert producer.ask(status="completed", ack=2)["ok"]
        assert time.monotonic() - asked < OTHERS_SECONDS
    others_go_on(sidecar)


def test_a_half_line_that_brought_one_and_hangs_up_keeps_nobody_waiting(sidecar: Sidecar) -> None:
    with lingering_sockets(3) as given:
        with Producer(sidecar) as producer:
            hand_over(producer.socket, b'{"job_id":', given)
        others_go_on(sidecar)


def test_a_later_daemon_that_meets_it_in_the_store_lives(tmp_path: Path) -> None:
    with running(tmp_path) as sidecar, lingering_sockets(4) as given, Producer(sidecar) as producer:
        assert producer.ask(job_id="j0", ack=0)["ok"]
        sidecar.end("kill")
        hand_over(producer.socket, ATTACHING, given[:2])
        hand_over(producer.socket, b'{"job_id":', given[2:])
        for how in ("kill", "restart"):
            sidecar.daemon.start()
            others_go_on(sidecar)
            sidecar.end(how)
        sidecar.daemon.start()
        assert producer.heard() == {"ack": 1, "ok": True}
        others_go_on(sidecar)


def test_files_that_never_close_keep_nobody_waiting_but_who_brings_more(sidecar: Sidecar, tmp_path: Path) -> None:
    few = MAX_THREADS + 10
    with stuck_files(tmp_path, sidecar.path, ATTACHING, few):
        sidecar.until("j1")
        others_go_on(sidecar)
        pidfds_are_taken(sidecar)
        assert sidecar.daemon.pid is not None
        os.kill(sidecar.daemon.pid, signal.SIGTERM)
        logged(sidecar, "stopped")  # the kernel keeps what is left of the process until the files are closed
    sidecar.again("kill")
    others_go_on(sidecar)


async def test_a_connection_that_is_turned_away_with_one_unread_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with desk(tmp_path, max_connections=1) as counter:
        with lingering_sockets(1) as given:
            first = await Reporter.connect(counter.path)
            await first.ask(hello=1)
            with socket.socket(socket.AF_UNIX) as second:
                second.connect(str(counter.path))
                hand_over(second, ATTACHING, given)
                asked = time.monotonic()
                await first.ask(job_id="other", ack=1)
                with suppress(ConnectionResetError):
                    assert await asyncio.to_thread(second.recv, 1) == b""
                await first.ask(job_id="other", current_phase="verifying", ack=2)
                assert time.monotonic() - asked < OTHERS_SECONDS
            await first.close()


def test_of_files_that_never_close_only_so_many_are_taken_in(sidecar: Sidecar, tmp_path: Path) -> None:
    with Producer(sidecar) as late:
        with stuck_files(tmp_path, sidecar.path, b'{"job_id":"j1"}\n', MAX_WAITING + 20):
            logged(sidecar, "descriptors sent along cannot be closed")
            others_go_on(sidecar)
            held = len(list(Path(f"/proc/{sidecar.daemon.pid}/fd").iterdir()))
            assert held < MAX_WAITING * 2
            hand_over(late.socket, b'{"job_id":"late","ack":3}\n', [socket.socket()])
            others_go_on(sidecar)
            assert "late" not in sidecar.jobs()
        assert late.heard() == {"ack": 3, "ok": True}
