"""Where lines become messages: tracker, cadence, and one task that writes to the outbox what waits together.

No sockets here. `accept` and `settle` are called for what was read and never wait; `run` is the only place that does.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from msgspec import UNSET

from sbc_daemon.agenda import Agenda
from sbc_daemon.cadence import STATE_CHANGES, Reason, due_at, reason_to_send
from sbc_daemon.config import CadenceSettings
from sbc_daemon.job_memory import JobFacts, JobMemory, from_json
from sbc_daemon.jobs import Jobs
from sbc_daemon.outbox import JobRecord
from sbc_daemon.pending import Ack, Draft, Origin, Pending
from sbc_daemon.snapshot import ended_facts, sent_mark, snapshot
from sbc_daemon.spooler import Spooler
from sbc_daemon.tracker import merge, merge_progress
from telemetry_common.clock import Clock
from telemetry_common.contract import FINAL, AttachedDisks, ErrorInfo, Line, ProgressLine, Update
from telemetry_common.lifecycle import Pulse
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

MAX_PENDING = 10_000
"""The weight of states and acks that wait for the disk; beyond it no lines are taken in until it has caught up."""
MAX_REPORTERS = 16
"""Users remembered as reporting a job, so that each is said once and not with every connection."""
IDLE_TURN_SECONDS = 5.0
"""Without anything to do the task still makes its turn, and shows that it can."""
PULSE_SECONDS = 60.0
"""A write to the outbox may take long on a busy disk, but not for ever."""


class Intake:
    def __init__(self, clock: Clock, spooler: Spooler, rules: CadenceSettings, pulse: Pulse) -> None:
        self.jobs = Jobs()
        self.lines = 0
        self.turns = 0
        """How often what waited was taken to be written."""
        self.writing = False
        """Somebody waits for the disk at this moment."""
        self.on_end: Callable[[str], None] = lambda job_id: None
        """Told of every job that has ended."""
        self._clock = clock
        self._spooler = spooler
        self._rules = rules
        self._pulse = pulse
        self._pending = Pending()
        self._touched: dict[str, JobMemory] = {}
        self._agenda = Agenda()
        self._woken = asyncio.Event()
        self._finishing = False
        self._finished = asyncio.Event()
        self._sleeps_until = float("-inf")
        self._paused: list[Callable[[], None]] = []
        self._awaited: list[Callable[[], None]] = []

    def restore(self, records: Iterable[JobRecord]) -> None:
        """Take up the jobs that the outbox had kept. A record that cannot be read is reported and left out."""
        now, moment = self._clock.monotonic(), self._clock.moment()
        for record in records:
            try:
                memory = from_json(record.snapshot, now, moment)
            except ValueError as error:
                log.error(fields("cannot read what was kept of a job; it begins anew", job=record.job_id, reason=error))
                continue
            if memory.state.ended:
                memory.shrink(ended_facts(memory.state, snapshot(memory, now)))
            self.jobs.add(memory)
            self._plan(memory)

    def accept(
        self,
        job_id: str,
        line: Line,
        origin: Origin,
        share: AttachedDisks | None = None,
        attach: Callable[[], None] | None = None,
    ) -> bool:
        """Take in one line; its `ack` is answered once it is safe. Raises LineRefused, and then it was not taken.

        True when the next write to the outbox has more to do for it: a change of state, or an ack.

        A change of state becomes a message at once; the rest is looked at in `settle`, once per job and read. `attach`
        is called in between, so that already the first message says that the producer lives.
        """
        now = self._clock.monotonic()
        memory, changed = self._merged(job_id, line, now, share)
        self.lines += 1
        if attach is not None:
            attach()
        if changed:
            self._consider(memory, now)
        else:
            self._touched[job_id] = memory
        if line.ack is not UNSET:
            self._pending.add_ack(Ack(job_id, line.ack, origin))
            self._woken.set()
        return changed or line.ack is not UNSET

    def _merged(self, job_id: str, line: Line, now: float, share: AttachedDisks | None) -> tuple[JobMemory, bool]:
        """The job with the line in it, and whether that changed a state. Raises LineRefused."""
        if line.disks is not UNSET or share is not None:
            self.jobs.make_room_for_disks(self._new_disks(job_id, line, share))
        memory = self.jobs.get(job_id)
        if memory is None:
            memory = JobMemory(JobFacts(job_id), now)
            changed = merge(memory, line, now, share)
            self.jobs.add(memory)
            return memory, changed
        return memory, self._merge_known(memory, line, now, share)

    def _merge_known(self, memory: JobMemory, line: Line, now: float, share: AttachedDisks | None) -> bool:
        """`merge` for a job that is here: its new disks are counted."""
        before = len(memory.state.disks)
        changed = merge(memory, line, now, share)
        self.jobs.has_grown(len(memory.state.disks) - before)
        return changed

    def _new_disks(self, job_id: str, line: Line, share: AttachedDisks | None) -> int:
        memory = self.jobs.get(job_id)
        named = set() if line.disks is UNSET else {disk.disk_index for disk in line.disks}
        named.update(() if share is None else share.disks)
        return len(named if memory is None else named - memory.state.disks.keys())

    def accept_progress(self, job_id: str, run: Iterable[ProgressLine]) -> int:
        """`accept` for lines that only say how far one job is, without what such lines cannot need.

        Returns how many were taken; the next one, if any is left, has to go through `accept`.
        """
        memory = self.jobs.get(job_id)
        if memory is None:
            return 0
        now = self._clock.monotonic()
        taken, changed = merge_progress(memory, run, now)
        self.lines += taken
        if changed:
            self._consider(memory, now)
        if taken:
            self._touched[job_id] = memory
        return taken

    def settle(self) -> None:
        """All that was read is in: see which jobs are worth a message."""
        if not self._touched:
            return
        touched, self._touched = self._touched, {}
        now = self._clock.monotonic()
        for memory in touched.values():
            self._consider(memory, now)

    def introduces(self, job_id: str, uid: int) -> bool:
        """Whether this user reports the job for the first time (since it is remembered); the next time it is not."""
        memory = self.jobs.get(job_id)
        if memory is None or uid in memory.reporters or len(memory.reporters) >= MAX_REPORTERS:
            return False
        memory.reporters |= {uid}
        return True

    def unfinished(self, job_id: str, share: AttachedDisks | None) -> bool:
        """Whether a producer with this share still has an end to report."""
        memory = self.jobs.get(job_id)
        if memory is None or memory.state.ended:
            return False
        if share is None:
            return True
        disks = (memory.state.disks.get(index) for index in share.disks)
        return any(disk is None or disk.status not in ("completed", "failed") for disk in disks)

    def attached(self, job_id: str) -> None:
        memory = self.jobs.get(job_id)
        if memory is not None:
            memory.producers += 1
            self._plan(memory)

    def detached(self, job_id: str) -> None:
        memory = self.jobs.get(job_id)
        if memory is None:
            return
        memory.producers = max(0, memory.producers - 1)
        if not memory.attached and not memory.state.ended:
            self._say_missing(memory.state)
            memory.state.news = True  # that nobody vouches for it any more: the hub forgets its idle_seconds
            self._plan(memory)

    def _say_missing(self, state: JobFacts) -> None:
        """Of a job shared by several processes, those that are here have ended. The others may come yet, one after the
        other; if none does, the hub's watchdog ends the job, and can take that back."""
        if state.of is not None:
            ended = sum(disk.status in FINAL for disk in state.disks.values())
            if ended:
                log.info(fields("job waits for its other disks", job=state.job_id, ended=ended, of=state.of))

    def producer_ended(self, job_id: str, pid: int, share: AttachedDisks | None) -> None:
        """Fail what the process has left unfinished. A whole job with another living producer is that one's affair.

        `pid` is below 0 where it is not known any more.
        """
        memory = self.jobs.get(job_id)
        if memory is None or not self.unfinished(job_id, share) or (share is None and memory.attached):
            return
        which = f" (pid {pid})" if pid > 0 else ""
        message = f"backup process{which} ended without reporting an outcome"
        log.warning(fields("job failed", job=job_id, reason=message))
        now = self._clock.monotonic()
        self._merge_known(memory, Line(status="failed", error=ErrorInfo(message)), now, share)
        self._consider(memory, now)

    @property
    def crowded(self) -> bool:
        """More waits for the disk than may: read no further, and ask to be called when it is better."""
        return self._pending.weight >= MAX_PENDING

    @property
    def owed(self) -> int:
        """The weight of the states and acks that wait for the disk."""
        return self._pending.weight

    def when_written(self, callback: Callable[[], None]) -> None:
        """Call back once everything taken in so far is in the outbox and answered, or refused. Progress does not count
        that was not worth a message."""
        self._awaited.append(callback)
        self._woken.set()

    def when_clear(self, callback: Callable[[], None]) -> None:
        self._paused.append(callback)
        self._woken.set()

    async def run(self) -> None:
        """Write what waits and say what is due, until `finish`; the last turn leaves nothing behind."""
        while not self._finishing:
            self._pulse.beat()
            await self._turn()
            await self._sleep()
        self.settle()
        for memory in self.jobs.running():
            if memory.state.news:
                self._pending.add_record(memory.state.job_id)
        while self._pending:
            await self._spooler.spool(self._pending, self._record, sync=True)
        self._tell_written(self._awaited)
        self._finished.set()

    async def finish(self) -> None:
        """Nothing comes in any more: return when all that was taken in is on the disk, also what was not yet worth a
        message. Never cancel `run` before: it may have a batch in its hands."""
        self._finishing = True
        self._woken.set()
        await self._finished.wait()

    async def _turn(self) -> None:
        for job_id in self._agenda.due(self._clock.monotonic()):
            memory = self.jobs.get(job_id)
            if memory is not None:
                self._consider(memory, self._clock.monotonic())
        awaited, self._awaited = self._awaited, []
        self.turns += 1
        if self._pending:
            self.writing = True
            await self._spooler.spool(self._pending, self._record)
            self.writing = False
        self._tell_written(awaited)
        if self._paused and not self.crowded:
            paused, self._paused = self._paused, []
            for resume in paused:
                resume()

    def _tell_written(self, awaited: Iterable[Callable[[], None]]) -> None:
        for tell in awaited:
            tell()

    async def _sleep(self) -> None:
        now = self._clock.monotonic()
        due = self._agenda.next_at()
        self._sleeps_until = now + IDLE_TURN_SECONDS if due is None else min(due, now + IDLE_TURN_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._sleeps_until - now):
                await self._woken.wait()
        self._woken.clear()

    def _consider(self, memory: JobMemory, now: float) -> None:
        update = snapshot(memory, now)
        reason = reason_to_send(memory, update, now, self._rules)
        if reason is not None:
            self._send(memory, update, reason, now)
        self._plan(memory)

    def _send(self, memory: JobMemory, update: Update, reason: Reason, now: float) -> None:
        """Hand the message on. This is "last sent": an absent hub does not change the cadence."""
        state = memory.state
        state.sent = sent_mark(state, update)
        state.news = False
        memory.sent_at = now
        self._pending.add(Draft(state.job_id, update, reason, self._clock.moment()))
        self._woken.set()
        if reason in STATE_CHANGES:
            log.debug(fields("state change", job=state.job_id, status=update.status, reason=reason))
        if state.ended:
            self._say_end(memory)
            memory.shrink(ended_facts(state, update))

    def _say_end(self, memory: JobMemory) -> None:
        state = memory.state
        self.jobs.ended(memory)
        self._touched.pop(state.job_id, None)
        error = state.error.text() if state.error else None
        log.info(fields("job ended", job=state.job_id, status=state.status, error=error))
        self.on_end(state.job_id)

    def _plan(self, memory: JobMemory) -> None:
        job_id = memory.state.job_id
        if job_id in self._agenda:
            return
        at = due_at(memory, self._rules)
        if at is not None:
            self._agenda.set(job_id, at)
            if at < self._sleeps_until:
                self._woken.set()

    def _record(self, job_id: str) -> JobRecord | None:
        memory = self.jobs.get(job_id)
        if memory is None:
            return None
        snapshot = memory.to_json(self._clock.monotonic(), self._clock.moment())
        return JobRecord(job_id=job_id, snapshot=snapshot, ended=memory.state.ended)
