"""Lines that no producer would write: none harms the sidecar, another line, or what the hub is told.

In process, a whole sidecar in virtual time takes them by the ten thousand; the real daemon takes its share over real
sockets. What `test_bad_input` and `test_bad_requests` do to the hub is done to the socket here.
"""

import asyncio
import gc
import json
import logging
import random
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from sbc_daemon.app import Sidecar
from sbc_daemon.config import SidecarSettings
from sbc_daemon.outbox_memory import MemoryOutbox
from sbc_daemon.processes import Peer
from telemetry_common.contract import FINAL, MAX_LINE_BYTES, Update
from telemetry_common.lifecycle import Lifecycle
from testbed.installation import sidecar_settings
from tests.faults.conftest import Note
from tests.support.hub import Heard
from tests.support.line_mutations import LineMutator
from tests.support.memory import resident_bytes
from tests.support.no_processes import NoProcesses
from tests.support.scripted_hub import Post, ScriptedHub
from tests.support.stage import RealSidecar
from tests.support.virtual_clock import VirtualClock, run_virtual

LINES, PER_CONNECTION, ROUNDS = 40_000, 200, 4
"""In each round, on each connection, and rounds of each seed."""
MAX_GROWTH_BYTES = 8 << 20


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the sidecar says that it should not: errors, and tracebacks of any level."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


def disorder(posts: Sequence[Post]) -> list[str]:
    """What went backwards on its way to the hub, or was said behind an end."""
    found, last = list[str](), dict[str, Update]()
    for post in posts:
        before, now = last.get(post.job_id), post.update
        last[post.job_id] = now
        if before is not None and (went_back(before, now) or before.status in FINAL):
            found.append(f"{post.job_id}: {before} became {now}")
    return found


def went_back(before: Update, now: Update) -> bool:
    pairs = ((before.seq, now.seq), (before.bytes_transferred, now.bytes_transferred))
    return any(old is not UNSET and (new is UNSET or new < old) for old, new in pairs)


class Listening:
    """One life of a sidecar over a hub that takes everything, and what it answered."""

    def __init__(self, seed: int) -> None:
        self.clock = VirtualClock()
        self.hub = ScriptedHub(self.clock.monotonic)
        self.outbox = MemoryOutbox()
        self.answers: Counter[str] = Counter()
        self.taken = 0
        self._mutator = LineMutator(seed)
        self._random = random.Random(seed)
        self.sidecar: Sidecar

    async def live(self, lines: int) -> None:
        lifecycle = Lifecycle(Heard(), self.clock)
        self.sidecar = await Sidecar.opened(
            SidecarSettings(), self.clock, self.outbox, self.hub, NoProcesses(), lifecycle
        )
        async with self.sidecar.running(1.0):
            for _ in range(lines // PER_CONNECTION):
                await self._connection()
                await asyncio.sleep(self._random.choice((0.0, 0.1, 6.0)))
            await self.sidecar.finish()
            self.taken = self.sidecar.intake.lines
        await self.sidecar.close()

    async def _connection(self) -> None:
        """Its bytes come in pieces of any size; a good line behind all of them is taken and answered."""
        conversation = self.sidecar.converse(Peer(0, 1, None), self._answered)
        whole = b"".join(self._mutator.line() for _ in range(PER_CONNECTION))
        while whole:
            size = self._random.choice((1, 7, 100, 5_000, 65_536))
            conversation.feed(whole[:size])
            whole = whole[size:]
            if self._random.random() < 0.02:
                await asyncio.sleep(0)
        before = self.answers["good"]
        conversation.feed(b'\n{"job_id":"good-%d","status":"running","ack":"good"}\n' % self._random.getrandbits(60))
        conversation.finish()
        async with asyncio.timeout(60):
            while conversation.unanswered:
                await asyncio.sleep(0.01)
        assert self.answers["good"] == before + 1
        conversation.close()

    def _answered(self, data: bytes) -> None:
        for raw in data.splitlines():
            answer: dict[str, Any] = json.loads(raw)
            assert answer.keys() == {"hello"} or self._is_ack(answer), answer
            self.answers["good" if answer.get("ack") == "good" else "ok" if answer.get("ok") else "not ok"] += 1

    def _is_ack(self, answer: dict[str, Any]) -> bool:
        told = answer["ok"] is True or (answer["ok"] is False and answer["error"])
        return bool(told) and answer.keys() <= {"ack", "ok", "error", "ended"}


@pytest.mark.parametrize("seed", [1, 2])
def test_no_line_is_a_fault_of_the_sidecar(seed: int, caplog: pytest.LogCaptureFixture, note: Note) -> None:
    """What the hub is told is held against the contract by the scripted hub, which decodes it as the real one does."""
    resident, answers, taken, posts = list[int](), Counter[str](), 0, 0
    with caplog.at_level(logging.ERROR):
        for number in range(ROUNDS):
            life = Listening(seed * 100 + number)
            run_virtual(life.live(LINES // ROUNDS), life.clock)
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
