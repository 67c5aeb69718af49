"""Mutated lines at a whole sidecar in virtual time, and what it makes of them."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sbc_daemon.app import Sidecar
from sbc_daemon.config import SidecarSettings
from sbc_daemon.processes import Peer
from telemetry_common.contract import FINAL, Update
from telemetry_common.lifecycle import Lifecycle
from testbed.memory_outbox import MemoryOutbox
from tests.support.hub import Heard
from tests.support.line_mutations import LineMutator
from tests.support.no_processes import NoProcesses
from tests.support.scripted_hub import Post, ScriptedHub
from tests.support.virtual_clock import VirtualClock, run_virtual

PER_CONNECTION = 200


def disorder(posts: Sequence[Post]) -> list[str]:
    """What went backwards in a job's row, or was said behind an end. Samples come last, and change no row."""
    found, last = list[str](), dict[str, Update]()
    for post in posts:
        before, now = last.get(post.job_id), post.update
        if before is not None and number(now) <= number(before):
            continue
        last[post.job_id] = now
        if before is not None and (moved(now) < moved(before) or before.status in FINAL):
            found.append(f"{post.job_id}: {before} became {now}")
    return found


def number(update: Update) -> int:
    return update.seq or 0


def moved(update: Update) -> int:
    return update.bytes_transferred or 0


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

    def hear(self, lines: int) -> None:
        """So many, in connections of PER_CONNECTION. AssertionError for an answer that is none."""
        run_virtual(self._hear(lines), self.clock)

    async def _hear(self, lines: int) -> None:
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
