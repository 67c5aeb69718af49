"""Which processes answer for which jobs, and what their end means.

A process may answer for several jobs, and a job may have several processes (each for some of its disks, or all for the
whole). A closed connection is not a death: the process may come back; but one that stays away for `GRACE_SECONDS`
is no longer waited for. A process that was named by its pidfd needs no connection at all.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from sbc_daemon.complaints import Complaints
from sbc_daemon.processes import Peer, Process, Processes, Unattachable, descriptor_of
from sbc_daemon.survivor_records import LinkRecord, ProcessRecord, encode
from sbc_daemon.survivors import Survivors
from telemetry_common.contract import AttachedDisks
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

GRACE_SECONDS = 10.0
"""How long a living producer without a connection keeps its jobs attached."""
MAX_PROCESSES = 1024
"""Held at once, a descriptor each: a quarter of the 4096 that the unit allows. Who may report can name any number of
processes by their pidfds; without a limit no descriptor would be left for connections."""
MAX_JOBS_LOGGED = 1024
"""Jobs of which it is remembered that they were said to go on unattached; the oldest is forgotten first."""


class Jobs(Protocol):
    """What attachments do to jobs."""

    def attached(self, job_id: str) -> None:
        """One more living process answers for the job."""

    def detached(self, job_id: str) -> None:
        """One process less does; the job goes on."""

    def producer_ended(self, job_id: str, pid: int, share: AttachedDisks | None) -> None:
        """The process has ended; all it had written is in. Fail what it has not brought to an end."""


class _TooMany(Unattachable):
    """As many processes are held as may be."""


class _Held:
    """`links`: the jobs it answers for. `name`: its pidfd's in the descriptor store, if it is there."""

    __slots__ = ("leaving", "links", "name", "process")

    def __init__(self, process: Process, name: str | None) -> None:
        self.process = process
        self.name = name
        self.links: dict[str, LinkRecord] = {}
        self.leaving: asyncio.TimerHandle | None = None

    def record(self) -> bytes | None:
        return encode(ProcessRecord(self.process.pid, self.links))

    def recorded(self) -> None:
        """Nothing waits for that."""


class Attachments:
    """`read_all` takes in every byte that was already written to any connection; it is asked before a verdict.

    With `survivors` what is attached stays so when the daemon is restarted.
    """

    def __init__(
        self, processes: Processes, jobs: Jobs, turned_away: Complaints, survivors: Survivors | None = None
    ) -> None:
        self.read_all: Callable[[], None] = lambda: None
        self._processes = processes
        self._jobs = jobs
        self._turned_away = turned_away
        self._survivors = survivors
        self._held: dict[int, _Held] = {}
        self._connections: dict[int, int] = {}
        self._unattached: dict[str, None] = {}

    def attach(self, job_id: str, share: AttachedDisks | None, peer: Peer, pidfd: int | None) -> None:
        """`job_id` lives with the process at the other end, or with the one that `pidfd` names (taken over)."""
        try:
            held = self._hold(peer, pidfd)
        except _TooMany as problem:
            self._turned_away.about(
                peer.uid, "job goes on unattached", job=job_id, uid=peer.uid, pid=peer.pid, reason=problem
            )
            return
        except Unattachable as problem:
            self._say_unattached(job_id, peer, problem)
            return
        link = held.links.get(job_id)
        if link is None:
            self._link(held, job_id, LinkRecord(share, lasting=pidfd is not None))
            log.info(fields("job attached to a process", job=job_id, process=held.process.pid))
        else:
            link.share = share
            link.lasting |= pidfd is not None
        self._changed(held)

    def take_up(self, name: str, process: Process, links: Mapping[str, LinkRecord]) -> None:
        """Hold again what an earlier daemon held: the jobs in `links`. The loop tells if it has ended meanwhile."""
        held = _Held(process, name)
        if self._alive(process.pid) is None:  # else that one has its pid by now
            self._held[process.pid] = held
        for job_id, link in links.items():
            self._link(held, job_id, link)
        process.on_end(lambda: self._ended(held))
        if process.pid not in self._connections:
            self._wait_for_its_return(held)

    def _link(self, held: _Held, job_id: str, link: LinkRecord) -> None:
        held.links[job_id] = link
        self._jobs.attached(job_id)

    def _changed(self, held: _Held) -> None:
        if self._survivors is not None and held.name is not None:
            self._survivors.keep(held.name, held)

    def _say_unattached(self, job_id: str, peer: Peer, problem: Unattachable) -> None:
        """Once per job: the producer may say `attach` with every line."""
        if job_id in self._unattached:
            return
        self._unattached[job_id] = None
        if len(self._unattached) > MAX_JOBS_LOGGED:
            del self._unattached[next(iter(self._unattached))]
        log.warning(fields("job goes on unattached", job=job_id, uid=peer.uid, pid=peer.pid, reason=problem))

    def share_of(self, pid: int, job_id: str) -> AttachedDisks | None:
        """What the process with this pid answers for, said on whichever of its connections."""
        held = self._held.get(pid)
        link = held.links.get(job_id) if held else None
        return link.share if link else None

    def connected(self, pid: int) -> None:
        self._connections[pid] = self._connections.get(pid, 0) + 1
        held = self._held.get(pid)
        if held is not None and held.leaving is not None:
            held.leaving.cancel()
            held.leaving = None

    def disconnected(self, pid: int) -> None:
        left = self._connections.get(pid, 0) - 1
        if left > 0:
            self._connections[pid] = left
            return
        self._connections.pop(pid, None)
        held = self._held.get(pid)
        if held is not None and held.leaving is None:
            self._wait_for_its_return(held)

    def _wait_for_its_return(self, held: _Held) -> None:
        held.leaving = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._let_go, held)

    def release(self, job_id: str) -> None:
        """The job has ended: nobody answers for it any more."""
        for held in [held for held in self._held.values() if job_id in held.links]:
            self._unlink(held, job_id)
            self._drop_if_idle(held)

    def pids(self, job_id: str) -> tuple[int, ...]:
        """The processes that answer for the job, for the operator."""
        return tuple(sorted(pid for pid, held in self._held.items() if job_id in held.links))

    def holders(self) -> dict[str, tuple[int, ...]]:
        """The same for every attached job."""
        found: dict[str, list[int]] = {}
        for pid, held in sorted(self._held.items()):
            for job_id in held.links:
                found.setdefault(job_id, []).append(pid)
        return {job_id: tuple(pids) for job_id, pids in found.items()}

    def close(self) -> None:
        """The daemon ends; the processes do not."""
        for held in list(self._held.values()):
            self._let_loose(held)

    def _hold(self, peer: Peer, pidfd: int | None) -> _Held:
        """The process, held once however often it is named. Raises Unattachable."""
        if pidfd is None and (held := self._alive(peer.pid)):
            return held
        process = self._processes.behind(peer) if pidfd is None else self._processes.named_by(pidfd)
        if held := self._alive(process.pid):
            process.close()
            return held
        if len(self._held) >= MAX_PROCESSES:
            process.close()
            raise _TooMany(f"cannot attach more than {MAX_PROCESSES} processes at once; end some of their jobs")
        held = self._held[process.pid] = _Held(process, self._kept(process))
        process.on_end(lambda: self._ended(held))
        return held

    def _kept(self, process: Process) -> str | None:
        descriptor = descriptor_of(process)
        if self._survivors is None or descriptor is None:
            return None
        return self._survivors.put("process", descriptor)

    def _alive(self, pid: int) -> _Held | None:
        """The process of this pid if it is held and lives: as long as it does, its pid is its own.

        One that has ended gives its place up at once; its end is dealt with when the loop tells of it, never from
        within a line that is being taken in.
        """
        held = self._held.get(pid)
        if held is not None and held.process.ended():
            del self._held[pid]
            return None
        return held

    def _ended(self, held: _Held) -> None:
        """What it wrote before it ended was said in its lifetime: take that in, then judge."""
        self.read_all()
        links = dict(held.links)
        self._drop(held)
        for job_id, link in links.items():
            self._jobs.producer_ended(job_id, held.process.pid, link.share)

    def _let_go(self, held: _Held) -> None:
        """It lives but has not come back: its jobs go on unattached."""
        held.leaving = None
        for job_id in [job_id for job_id, link in held.links.items() if not link.lasting]:
            self._unlink(held, job_id)
            log.warning(fields("producer stays away; job goes on unattached", job=job_id, process=held.process.pid))
        self._drop_if_idle(held)

    def _drop_if_idle(self, held: _Held) -> None:
        if not held.links:
            self._drop(held)

    def _unlink(self, held: _Held, job_id: str) -> None:
        del held.links[job_id]
        self._jobs.detached(job_id)
        self._changed(held)

    def _drop(self, held: _Held) -> None:
        """It answers for nothing any more."""
        if self._survivors is not None and held.name is not None:
            self._survivors.release(held.name)
        self._let_loose(held)

    def _let_loose(self, held: _Held) -> None:
        if held.leaving is not None:
            held.leaving.cancel()
        if self._held.get(held.process.pid) is held:
            del self._held[held.process.pid]
        for job_id in held.links:
            self._jobs.detached(job_id)
        held.links.clear()
        if self._survivors is not None and held.name is not None:
            self._survivors.leave(held.name)
        held.process.close()
