"""The socket protocol against a model of it: producers talk, hang up and talk again, the hub comes, goes and loses its
answers, the sidecar is killed and stopped. Every answer, and in the end all that the hub was told, is as it says.

The model is written from docs/socket-protocol.md and shares no code with the sidecar, which runs in virtual time.
"""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sbc_daemon.answers import Answer
from sbc_daemon.app import Sidecar
from sbc_daemon.config import SidecarSettings
from sbc_daemon.conversation import Conversation
from sbc_daemon.processes import Peer
from telemetry_common.lifecycle import Lifecycle
from testbed.memory_disk import MemoryDisk
from testbed.memory_outbox import MemoryOutbox
from tests.faults.conftest import Note
from tests.support.hub import Heard
from tests.support.no_processes import NoProcesses
from tests.support.scripted_hub import UNREACHABLE, Post, ScriptedHub
from tests.support.virtual_clock import VirtualClock, virtual_loop

JOBS = ("j1", "j2", "j3")
ENDS = ("completed", "failed", "cancelled")
DONE: Counter[str] = Counter()
jobs = st.sampled_from(JOBS)
amounts = st.integers(0, 1000)


class LosingHub(ScriptedHub):
    """It `loses` answers: what came is stored, and the sender does not know. `taken`: what a job's row went through."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock.monotonic)
        self.loses = False
        self._taken: dict[str, dict[int, dict[str, Any]]] = {}

    async def post(self, job_id: str, body: bytes) -> Answer:
        answer = await super().post(job_id, body)
        return UNREACHABLE if self.loses else answer

    def taken(self, job_id: str) -> list[dict[str, Any]]:
        """In the order of the numbers."""
        return [update for _, update in sorted(self._taken.get(job_id, {}).items())]

    def _answer(self, post: Post) -> Answer:
        answer = super()._answer(post)
        if answer.status == 204:
            update = msgspec.to_builtins(post.update)
            before = self._taken.setdefault(post.job_id, {}).setdefault(update["seq"], update)
            assert {**before, "age_seconds": 0} == {**update, "age_seconds": 0}, "one number, two messages"
        return answer


class Job:
    """What the protocol says of a job: `states` are the changes of (status, phase) in their order."""

    def __init__(self) -> None:
        self.status: str | None = None
        self.phase: str | None = None
        self.moved: int | None = None
        self.murmured = 0
        self.total = 0
        self.error: str | None = None
        self.states: list[tuple[str, str | None]] = []

    @property
    def ended(self) -> bool:
        return self.status in ENDS

    def hear(self, line: dict[str, Any]) -> None:
        if "bytes_transferred" in line:
            self.moved = max(self.moved or 0, line["bytes_transferred"])
        self.total = line.get("total_bytes") or self.total
        self.phase = line.get("current_phase", self.phase)
        said = line.get("status")
        if line.get("error") and said != "cancelled":
            said = "failed"
        if line.get("error"):
            self.error = line["error"]["message"]
        if said in ENDS:
            self.status = said
        elif self.status is None:
            self.status = "pending" if said == "pending" else "running"
        elif self.status == "pending" and said == "running":
            self.status = "running"
        state = (self.status, self.phase)
        if not self.states or self.states[-1] != state:
            self.states.append(state)


class Socket(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.clock = VirtualClock()
        self.runner = asyncio.Runner(loop_factory=lambda: virtual_loop(self.clock))
        self.hub = LosingHub(self.clock)
        self.disk = MemoryDisk()
        self.jobs = {job_id: Job() for job_id in JOBS}
        self.acks: dict[int, dict[str, Any]] = {}
        self.asked = 0
        self.named: str | None = None
        self.runner.run(self._start())
        DONE["runs"] += 1

    @rule(
        job_id=jobs,
        named=st.booleans(),
        status=st.sampled_from((None, None, "pending", "running", "running", *ENDS)),
        phase=st.sampled_from((None, None, "snapshot", "transferring", "finalizing")),
        moved=st.none() | amounts,
        total=st.sampled_from((None, None, 0, 1000)),
        error=st.sampled_from((None,) * 8 + ("no room",)),
    )
    def say(self, job_id: str, named: bool, **said: Any) -> None:
        """A line that wants an answer; the job's name is left out where the connection knows it."""
        error = said.pop("error")
        keys = {"status": "status", "phase": "current_phase", "moved": "bytes_transferred", "total": "total_bytes"}
        line = {keys[key]: value for key, value in said.items() if value is not None}
        if error is not None:
            line["error"] = {"message": error}
        if named or self.named is None:
            line["job_id"] = self.named = job_id
        job = self.jobs[self.named]
        answer = self.runner.run(self._ask(line))
        DONE["lines"] += 1
        if job.ended:
            assert (answer["ok"], answer["ended"]) == (False, job.status)
        else:
            assert answer["ok"] is True
            job.hear(line)

    @rule(job_id=jobs, moved=amounts)
    def progress(self, job_id: str, moved: int) -> None:
        """A line without an ack, and the next one asks: what stands before it on the connection is then safe too."""
        if not self.jobs[job_id].ended and self.jobs[job_id].status is not None:
            self.conversation.feed(b'{"job_id":"%s","bytes_transferred":%d}\n' % (job_id.encode(), moved))
            self.named = job_id
            assert self.runner.run(self._ask({}))["ok"]
            self.jobs[job_id].hear({"bytes_transferred": moved})
            DONE["lines"] += 2

    @rule(job_id=jobs, moved=amounts, seconds=st.sampled_from((0.0, 6.0)))
    def murmur(self, job_id: str, moved: int, seconds: float) -> None:
        """A line that nobody asks about: it may be lost with the process, and must not come back as news."""
        job = self.jobs[job_id]
        if not job.ended and job.status is not None:
            self.conversation.feed(b'{"job_id":"%s","bytes_transferred":%d}\n' % (job_id.encode(), moved))
            self.named = job_id
            self.runner.run(asyncio.sleep(seconds))
            job.murmured = max(job.murmured, moved)
            DONE["murmurs"] += 1

    @rule(bad=st.sampled_from((b"{", b"[]", b'{"status":"soon"}', b'{"bytes_transferred":-1}', b"\xff", b"x" * 70_000)))
    def say_nonsense(self, bad: bytes) -> None:
        """It costs nobody anything, and its own ack is told no where it can be read."""
        self.conversation.feed(bad + b"\n")
        self.asked += 1
        self.conversation.feed(b'{"job_id":"j1","bytes_transferred":"many","ack":%d}\n' % self.asked)
        self.named = "j1"
        assert self.runner.run(self._answer(self.asked))["ok"] is False
        DONE["bad lines"] += 2

    @rule()
    def hang_up(self) -> None:
        self.runner.run(self._hang_up())

    @rule(seconds=st.sampled_from((0.1, 1.0, 6.0, 60.0)))
    def wait(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    @rule(what=st.sampled_from(("up", "down", "loses")))
    def hub_is(self, what: str) -> None:
        self.hub.up, self.hub.loses = what != "down", what == "loses"

    @rule(power=st.booleans())
    def kill(self, power: bool) -> None:
        """The process, or the whole machine: what was not synced is gone with it."""
        self.runner.run(self._die())
        if power:
            self.disk.power_cut()
        self.disk.held = False
        self.runner.run(self._start())
        DONE["kills"] += 1

    @rule()
    def stop(self) -> None:
        self.runner.run(self._stop())
        self.runner.run(self._start())
        DONE["stops"] += 1

    @rule()
    @precondition(lambda self: any(job.status for job in self.jobs.values()))
    def settle(self) -> None:
        """The hub is there for a while: it knows all that was acknowledged, and nothing else."""
        self.hub.up, self.hub.loses = True, False
        self.runner.run(asyncio.sleep(40))
        for job_id, job in self.jobs.items():
            self._compare(job_id, job)
        DONE["comparisons"] += len(JOBS)

    @invariant()
    def nothing_goes_backwards(self) -> None:
        for job_id in JOBS if hasattr(self, "hub") else ():
            moved = [post.get("bytes_transferred", 0) for post in self.hub.taken(job_id)]
            assert moved == sorted(moved)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.settle()
            self.runner.run(self._stop())
            self.runner.close()

    def _compare(self, job_id: str, job: Job) -> None:
        told = self.hub.taken(job_id)
        states = [(post["status"], post.get("current_phase")) for post in told]
        assert [state for n, state in enumerate(states) if n == 0 or states[n - 1] != state] == job.states
        if job.status is not None:
            last = told[-1]
            assert last.get("total_bytes", 0) == job.total
            assert (job.moved or 0) <= last.get("bytes_transferred", 0) <= max(job.moved or 0, job.murmured)
            assert last.get("error", {}).get("message") == (job.error if job.ended else None)
            assert (last.get("progress_percent") == 100.0) is (job.status == "completed")

    async def _start(self) -> None:
        self.outbox = MemoryOutbox(disk=self.disk)
        self.sidecar = await Sidecar.opened(
            SidecarSettings(), self.clock, self.outbox, self.hub, NoProcesses(), Lifecycle(Heard(), self.clock)
        )
        self.leave = asyncio.Event()
        self.life = asyncio.create_task(self._live())
        self._connect()
        await asyncio.sleep(0)

    async def _live(self) -> None:
        async with self.sidecar.running(1.0):
            await self.leave.wait()
            await self.sidecar.finish()
        await self.sidecar.close()

    async def _stop(self) -> None:
        self.leave.set()
        await self.life

    async def _die(self) -> None:
        self.life.cancel()
        with suppress(asyncio.CancelledError):
            await self.life

    def _connect(self) -> None:
        self.conversation: Conversation = self.sidecar.converse(Peer(0, 1, None), self._answered)
        self.named = None

    async def _hang_up(self) -> None:
        self.conversation.finish()
        self.conversation.close()
        self._connect()

    async def _ask(self, line: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        self.conversation.feed(json.dumps(line | {"ack": self.asked}).encode() + b"\n")
        return await self._answer(self.asked)

    async def _answer(self, ack: int) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while ack not in self.acks:
                await asyncio.sleep(0.001)
        return self.acks.pop(ack)

    def _answered(self, data: bytes) -> None:
        for raw in data.splitlines():
            answer = json.loads(raw)
            assert answer["ack"] not in self.acks, "answered twice"
            self.acks[answer["ack"]] = answer


def test_the_sidecar_is_what_the_model_of_its_protocol_says(note: Note) -> None:
    DONE.clear()
    run_state_machine_as_test(
        Socket,
        settings=settings(
            max_examples=300, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    rules = ("runs", "lines", "bad lines", "murmurs", "kills", "stops", "comparisons")
    assert all(DONE[what] for what in rules), "a rule was never applied"
    note(**{key.replace(" ", "_"): value for key, value in DONE.items()})
