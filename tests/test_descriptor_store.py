"""systemd's descriptor store, as far as this end goes: what is sent, and what is done while nobody reads."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sbc_daemon.descriptor_store import DescriptorStore, capacity_of, store_of
from sbc_daemon.replay import may_have_been_taken
from telemetry_common.contract import AttachedDisks, ErrorInfo, JobStatus, Line
from telemetry_common.sockets import descriptors

SHARE = AttachedDisks((0,), 2)


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.settimeout(10)
        yield listening


def received(listening: socket.socket) -> tuple[str, int]:
    """The next message, and how many descriptors came along."""
    message, came, _, _ = socket.recv_fds(listening, 4096, 4)
    for descriptor in came:
        os.close(descriptor)
    return message.decode(), len(came)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DescriptorStore]:
    made = DescriptorStore(str(tmp_path / "notify"), 2)
    yield made
    made.close()


async def test_what_is_put_is_sent_with_its_name_and_stays_when_it_hangs_up(
    tmp_path: Path, store: DescriptorStore
) -> None:
    with manager(str(tmp_path / "notify")) as listening:
        assert store.put("connection-1", listening.fileno())
        assert received(listening) == ("FDSTORE=1\nFDNAME=connection-1\nFDPOLL=0", 1)
        store.remove("connection-1")
        assert received(listening) == ("FDSTOREREMOVE=1\nFDNAME=connection-1", 0)


async def test_the_manager_may_have_an_abstract_address() -> None:
    name = f"test-store-{os.getpid()}"
    with manager(f"\0{name}") as listening:
        store = DescriptorStore(f"@{name}", 1)
        assert store.put("process-1", listening.fileno())
        assert received(listening)[1] == 1
        store.close()


async def test_beyond_its_room_nothing_is_put_until_something_is_removed(
    tmp_path: Path, store: DescriptorStore, caplog: pytest.LogCaptureFixture
) -> None:
    with manager(str(tmp_path / "notify")) as listening:
        assert [store.put(name, listening.fileno()) for name in "abcd"] == [True, True, False, False]
        store.remove("a")
        assert store.put("e", listening.fileno())
    assert caplog.text.count("descriptor store is full") == 1


async def test_while_systemd_does_not_read_nothing_is_lost_and_nothing_waits_for_long(tmp_path: Path) -> None:
    store = DescriptorStore(str(tmp_path / "notify"), 2000)
    with manager(str(tmp_path / "notify")) as listening:
        names = [f"connection-{number}" for number in range(100)]
        assert all(store.put(name, listening.fileno()) for name in names)
        lagged = store.lagging
        store.remove(names[-1])  # it was never sent
        store.remove(names[0])
        heard: list[str] = []
        listening.setblocking(False)
        async with asyncio.timeout(10):
            while f"FDSTOREREMOVE=1\nFDNAME={names[0]}" not in heard:
                try:
                    heard.append(received(listening)[0])
                except BlockingIOError:
                    await asyncio.sleep(0.001)
        assert len(heard) == len(names)
        assert (lagged, store.lagging) == (True, False)
    store.close()


async def test_a_manager_that_is_not_there_is_waited_for_a_second_and_no_longer(
    store: DescriptorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.put("connection-1", 0)
    waited_for = [store.lagging]
    monkeypatch.setattr("sbc_daemon.descriptor_store.LAG_SECONDS", 0.0)
    assert [*waited_for, store.lagging] == [True, False]


@pytest.mark.parametrize(
    ("environ", "configured", "capacity"),
    [
        ({}, 1536, 1536),
        ({"FDSTORE": "100"}, 1536, 100),
        ({"FDSTORE": "0"}, 1536, 0),
        ({"FDSTORE": "many"}, 1536, 1536),
        ({"FDSTORE": "100"}, 0, 0),
    ],
)
def test_systemd_knows_better_than_the_configuration(environ: dict[str, str], configured: int, capacity: int) -> None:
    assert capacity_of(environ, configured) == capacity


def test_without_a_service_manager_there_is_no_store() -> None:
    assert store_of({}, 1536, ()) is None
    assert store_of({"NOTIFY_SOCKET": "vsock:2:1"}, 1536, ()) is None


def test_what_was_handed_over_to_another_process_is_not_ours() -> None:
    environ = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "stored"}
    assert descriptors(environ) == []
    assert environ == {}


@pytest.mark.parametrize(
    ("line", "share", "ended", "taken"),
    [
        (Line(current_phase="finalizing"), None, "completed", True),
        (Line(status="completed"), None, "completed", True),
        (Line(error=ErrorInfo("torn")), None, "failed", True),
        (Line(status="completed"), SHARE, "failed", True),
        (Line(status="failed"), None, "completed", False),
        (Line(status="completed"), None, "failed", False),
        (Line(status="cancelled"), None, "failed", False),
    ],
)
def test_a_line_that_is_read_again_after_the_jobs_end(
    line: Line, share: AttachedDisks | None, ended: JobStatus, taken: bool
) -> None:
    assert may_have_been_taken(line, share, ended) is taken
