"""Lines that no producer would write: none harms the sidecar, another line, or what the hub is told.

In process, a whole sidecar in virtual time takes them by the ten thousand; the real daemon takes its share over real
sockets. What `test_bad_input` and `test_bad_requests` do to the hub is done to the socket here.
"""

import gc
import json
import logging
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry_common.contract import MAX_LINE_BYTES
from testbed.installation import sidecar_settings
from tests.faults.conftest import Note
from tests.support.line_mutations import LineMutator
from tests.support.listening import PER_CONNECTION, Listening, disorder
from tests.support.memory import resident_bytes
from tests.support.stage import RealSidecar

LINES, ROUNDS = 40_000, 4
"""Of each seed."""
MAX_GROWTH_BYTES = 8 << 20


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the sidecar says that it should not: errors, and tracebacks of any level."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


@pytest.mark.parametrize("seed", [1, 2])
def test_no_line_is_a_fault_of_the_sidecar(seed: int, caplog: pytest.LogCaptureFixture, note: Note) -> None:
    """What the hub is told is held against the contract by the scripted hub, which decodes it as the real one does."""
    resident, answers, taken, posts = list[int](), Counter[str](), 0, 0
    with caplog.at_level(logging.ERROR):
        for number in range(ROUNDS):
            life = Listening(seed * 100 + number)
            life.hear(LINES // ROUNDS)
            answers += life.answers
            taken += life.taken
            posts += len(life.hub.posts)
            assert disorder(life.hub.posts) == []
            del life
            gc.collect()
            resident.append(resident_bytes("self"))
    assert complaints(caplog) == []
    assert answers["ok"] > LINES / 20
    assert answers["not ok"] > LINES / 50
    assert taken > LINES / 10
    assert resident[-1] - resident[0] < MAX_GROWTH_BYTES, resident
    note(lines=LINES, taken=taken, acks=answers.total(), messages=posts)


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[RealSidecar]:
    with RealSidecar(tmp_path, sidecar_settings(tmp_path, "http://127.0.0.1:9")) as running:
        yield running


@pytest.mark.integration
def test_no_line_is_a_fault_of_the_real_daemon_and_its_memory_is_bounded(sidecar: RealSidecar, note: Note) -> None:
    mutator, resident = LineMutator(77), list[int]()
    for number in range(12):
        for _ in range(10):
            sidecar.say(b"".join(mutator.line() for _ in range(PER_CONNECTION)))
        assert sidecar.ask(job_id=f"good-{number}", status="running")["ok"]
        resident.append(resident_bytes(sidecar.pid or 0))
    log = sidecar.log()
    assert " ERROR " not in log
    assert "Traceback" not in log
    assert resident[-1] - resident[3] < MAX_GROWTH_BYTES, resident
    note(lines=12 * 10 * PER_CONNECTION, resident_kib=resident[-1] >> 10)


@pytest.mark.integration
def test_an_endless_line_costs_no_memory_and_nobody_else_anything(sidecar: RealSidecar, note: Note) -> None:
    """Thirty of them at once, a mebibyte each time, none with a newline; and ten that send nothing but newlines."""
    before, sent = resident_bytes(sidecar.pid or 0), 0
    endless = [connected(sidecar) for _ in range(40)]
    try:
        for _ in range(8):
            for number, producer in enumerate(endless):
                piece = b"x" * (1 << 20) if number < 30 else b"\n" * (1 << 20)
                producer.sendall(piece)
                sent += len(piece)
            assert sidecar.ask(job_id="good", bytes_transferred=sent)["ok"]
        grown = resident_bytes(sidecar.pid or 0) - before
    finally:
        for producer in endless:
            producer.close()
    assert grown < 40 * MAX_LINE_BYTES + MAX_GROWTH_BYTES
    note(sent_mib=sent >> 20, grown_kib=grown >> 10)


@pytest.mark.integration
def test_slow_and_half_open_connections_cost_little_and_block_nobody(sidecar: RealSidecar, note: Note) -> None:
    """Four hundred that have sent half a line, that have hung up their sending half, or that read no answer."""
    before = resident_bytes(sidecar.pid or 0)
    slow = [connected(sidecar) for _ in range(400)]
    try:
        for number, producer in enumerate(slow):
            producer.sendall(b'{"job_id":"slow-%d","ack":' % number)
            if number % 4 == 0:
                producer.shutdown(socket.SHUT_WR)
        deaf = slow[1]
        deaf.setblocking(False)
        deaf.sendall(b"1}\n")
        for _ in range(200):
            try:
                deaf.send(b'{"ack":"%s"}\n' % (b"a" * 1000) * 20)
            except BlockingIOError:
                break
        for number, producer in list(enumerate(slow))[2::4]:
            producer.sendall(b"%d}\n" % number)
            producer.settimeout(20)
            assert json.loads(producer.recv(4096)) == {"ack": number, "ok": True}
        assert sidecar.ask(job_id="good", status="running")["ok"]
        grown = resident_bytes(sidecar.pid or 0) - before
    finally:
        for producer in slow:
            producer.close()
    assert grown < 24 << 20
    note(connections=len(slow), grown_kib=grown >> 10)


def connected(sidecar: RealSidecar) -> socket.socket:
    producer = socket.socket(socket.AF_UNIX)
    producer.connect(sidecar.socket)
    return producer
