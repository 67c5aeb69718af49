"""Backups: several disks and phases, progress, an end that is said, or a death without a word.

They speak as the client library does (`client_wire` is its own): a change of state is repeated until it is confirmed,
and after a reconnect everything that is known comes first. Figures are sent when there is somebody to send them to.
"""

import asyncio
from functools import reduce

import msgspec

from sbc_daemon.client_wire import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Fields,
    ended_so,
    lines,
    merged,
    unsaid,
)
from simulation.backups import Backup
from simulation.channel import Channel
from simulation.faults import between
from simulation.ground import Ground
from simulation.programs import Program
from simulation.sidecar_host import SidecarHost
from simulation.truth import Change


class Producer:
    """The process of one backup. `hurry`: the world comes to its end, and so does the backup."""

    def __init__(self, ground: Ground, backup: Backup, pid: int, host: SidecarHost) -> None:
        self.backup = backup
        self.hurry = False
        self.done = False
        self._host = host
        self._faults = ground.faults
        self._truth = ground.truth
        self._story = ground.story
        self._chance = ground.faults.stream(f"producer {backup.job_id}")
        self._program = Program(pid, attachable=self._chance.random() < 0.9)
        self._channel: Channel | None = None
        self._waiting: dict[int, Fields] = {}
        self._said: set[int] = set()
        self._repeated: set[int] = set()
        self._known: Fields = {}
        self._moved = [0] * len(backup.disk_bytes)
        self._number = 0
        self._ended = False
        self._introduced = False
        self._changed = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """From its beginning until its process is gone."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self.backup.begins)
        talking = loop.create_task(self._keep_talking(), name=f"talk {self.backup.job_id}")
        self._life = loop.create_task(self._live(), name=f"live {self.backup.job_id}")
        await asyncio.wait([self._life])
        talking.cancel()
        self._leave()

    def power_cut(self) -> None:
        """The machine is down, and with it the process, if it has begun. It does not come back."""
        if self._life is not None:
            self._life.cancel()

    async def _live(self) -> None:
        backup = self.backup
        self._say({"status": "running", "current_phase": backup.phases[0], **self._figures()})
        dies = backup.ending == "dies"
        fate = self._chance.randrange(len(backup.phases)) if dies else -1
        for place, phase in enumerate(backup.phases):
            if place:
                self._say({"current_phase": phase, **self._figures()})
            if not await self._work(dies_here=place == fate):
                break
        else:
            await self._end()

    async def _work(self, *, dies_here: bool) -> bool:
        """One phase; whether the process still lives behind it."""
        seconds = self.backup.seconds / len(self.backup.phases)
        end = asyncio.get_running_loop().time() + seconds * self._chance.uniform(0.5, 1.5)
        dies_at = end - seconds * 0.3 if dies_here else float("inf")
        while (now := asyncio.get_running_loop().time()) < end and not self.hurry:
            if now >= dies_at:
                return False
            await asyncio.sleep(self.backup.pace_seconds * self._chance.uniform(0.5, 1.5))
            self._move()
            self._put(self._figures())
            if self._chance.random() < self.backup.mishaps and not self._faults.healed:
                await self._mishap()
        return not dies_here

    async def _mishap(self) -> None:
        if self._chance.random() < 0.6:
            self._faults.note("producer's connection broken", self.backup.job_id)
            self._disconnect()
            return
        seconds = between(self._chance, 1.0, min(900.0, self.backup.seconds))
        self._faults.note("producer hangs", self.backup.job_id, seconds)
        await asyncio.sleep(seconds)

    async def _end(self) -> None:
        """Said, and waited for: a process that never hears of it leaves all the same at last."""
        if self.backup.ending == "completed":
            self._moved = list(self.backup.disk_bytes)
            self._say({"status": "completed", **self._figures()})
        else:
            self._say({"status": "failed", "error": {"message": "cannot read the disk"}, **self._figures()})
        patience = asyncio.get_running_loop().time() + between(self._chance, 60.0, 7200.0)
        while self._waiting and asyncio.get_running_loop().time() < patience:
            await asyncio.sleep(1.0)
        self._ended = not self._waiting

    def _leave(self) -> None:
        """The process is gone; what it had attached to may be told to fail by that."""
        job = self._truth.job(self.backup.job_id)
        if not self._ended:
            self._faults.note("producer dies", self.backup.job_id)
            self._truth.said(self.backup.job_id, "", "failed", 0)
            self._truth.attention.died(self.backup.job_id)
        job.forsaken = True
        self._program.ends()
        if self._channel is not None:
            self._channel.close()
        self.done = True

    def _move(self) -> None:
        part = self.backup.pace_seconds / max(self.backup.seconds, 1.0)
        for index, total in enumerate(self.backup.disk_bytes):
            step = int(total * part * self._chance.uniform(0.2, 1.4))
            self._moved[index] = min(total, self._moved[index] + step)

    def _figures(self) -> Fields:
        if not self.backup.by_disk:
            return {"bytes_transferred": sum(self._moved), "total_bytes": sum(self.backup.disk_bytes)}
        both = zip(self._moved, self.backup.disk_bytes, strict=True)
        return {
            "disks": {n: {"bytes_transferred": moved, "total_bytes": total} for n, (moved, total) in enumerate(both)}
        }

    def _say(self, change: Fields) -> None:
        self._number += 1
        self._waiting[self._number] = change
        self._put({**change, "ack": self._number})

    def _put(self, fields: Fields) -> None:
        """To whoever is there to hear it."""
        channel = self._channel
        if channel is None:
            return
        if "ack" in fields:
            self._said.add(fields["ack"])
        introduction: Fields = {} if self._introduced else {"attach": self.backup.attached}
        self._introduced = True
        attaches = self.backup.attached and self._program.attachable
        for line in lines({"job_id": self.backup.job_id, **introduction, **fields}):
            channel.write(line, lambda: self._read(fields, attaches=attaches))

    def _read(self, fields: Fields, *, attaches: bool) -> None:
        self._truth.attention.read(self.backup.job_id, attaches=attaches)
        disks = fields.get("disks", {}).values()
        most = max(fields.get("bytes_transferred", 0), sum(disk["bytes_transferred"] for disk in disks))
        end = fields.get("status", "") if fields.get("status") in ("completed", "failed") else ""
        self._truth.said(self.backup.job_id, fields.get("current_phase", ""), end, most)
        if "ack" in fields:
            self._story.note(
                "said its end" if end else "said",
                self.backup.job_id,
                (fields["ack"], fields.get("current_phase"), end, most),
            )

    async def _keep_talking(self) -> None:
        """Connect whenever there is no connection, waiting longer each time."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            if self._channel is None:
                self._channel = self._host.connect(self._program)
                if self._channel is not None:
                    pause = FIRST_PAUSE_SECONDS
                    self._begin(self._channel)
            if self._channel is not None:
                self._changed.clear()
                await self._changed.wait()
            else:
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)

    def _begin(self, channel: Channel) -> None:
        channel.heard = self._hear
        channel.broken = self._lost
        self._introduced = False
        known = reduce(unsaid, self._waiting.values(), self._known)
        if known:
            self._put(known)
        repeated = set(self._said)
        for number, change in self._waiting.items():
            self._put({**change, "ack": number})
        self._repeated = repeated & self._waiting.keys()

    def _lost(self) -> None:
        self._channel = None
        self._changed.set()

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._lost()

    def _hear(self, data: bytes) -> None:
        answer = msgspec.json.decode(data)
        change = self._waiting.pop(answer.get("ack"), None)
        if change is None:
            return
        self._known = merged(self._known, change)
        repeated = answer["ack"] in self._repeated
        if answer["ok"] or (repeated and ended_so(answer, change)):
            self._truth.acknowledge(self.backup.job_id, _change(change))
        else:
            self._story.note("refused", self.backup.job_id, str(answer.get("error")))


def _change(said: Fields) -> Change:
    """What a line said, as the truth keeps it."""
    end = said.get("status", "")
    disks = said.get("disks", {})
    return Change(
        phase=said.get("current_phase", ""),
        end=end if end in ("completed", "failed") else "",
        bytes=said.get("bytes_transferred", 0),
        disk_bytes=tuple(disks[index]["bytes_transferred"] for index in sorted(disks)),
        error=said.get("error", {}).get("message", ""),
    )
