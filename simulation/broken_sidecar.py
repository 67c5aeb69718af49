"""Broken sidecars: outboxes that lose something, and functions that give what they put in the place of what."""

from typing import Any

from msgspec import structs

from sbc_daemon import answers, cadence, carrier, intake, message, pending
from sbc_daemon.answers import Answer, Outcome
from sbc_daemon.carrier import Carrier
from sbc_daemon.intake import Intake
from sbc_daemon.outbox import Entry
from simulation.broken_hub import Patch
from testbed.memory_outbox import MemoryOutbox


class Unsynced(MemoryOutbox):
    async def keep(self, messages: Any, records: Any, *, synced: bool) -> None:
        await super().keep(messages, records, synced=False)


class DropsNewest(MemoryOutbox):
    async def keep(self, messages: Any, records: Any, *, synced: bool) -> None:
        kept = [one for one in messages if len(self._disk.lanes.get(one.job_id, {})) < 3]
        await super().keep(kept, records, synced=synced)


class ForgetsBeforeTheAnswer(MemoryOutbox):
    async def first(self, job_id: str) -> Entry | None:
        entry = await super().first(job_id)
        if entry is not None:
            await super().delivered(entry)
        return entry


class ProgressFirst(MemoryOutbox):
    def _next(self, job_id: str) -> Entry | None:
        lane = [entry for entry in self._disk.lanes.get(job_id, {}).values() if entry not in self._owed]
        newest = next((entry for entry in lane if entry.message.kind == "progress"), None)
        return newest or super()._next(job_id)


def refused_for_good() -> list[Patch]:
    real = answers.judge

    def judge(answer: Answer, now_wall: float) -> Outcome:
        outcome = real(answer, now_wall)
        return structs.replace(outcome, verdict="reject") if answer.status == 500 else outcome

    return [(carrier, "judge", judge)]


def retry_budget() -> list[Patch]:
    real, attempts = Carrier._not_delivered, dict[str, int]()

    async def not_delivered(self: Carrier, one: Any, started: float, *, probe: bool) -> None:
        key = f"{one.parcel.lane.job_id}/{one.parcel.entry.message.seq}"
        attempts[key] = attempts.get(key, 0) + 1
        if attempts[key] < 5:
            await real(self, one, started, probe=probe)
        else:
            await self._courier.delivered([(one.parcel.lane, one.parcel.entry, one.outcome)])

    return [(Carrier, "_not_delivered", not_delivered)]


def only_the_latest_state() -> list[Patch]:
    return [(pending.Draft, "is_state", False)]


def told_as_of_now() -> list[Patch]:
    return [(message, "age_seconds", lambda then, now: 0.0)]


def stale_is_delivered() -> list[Patch]:
    return [(message.Message, "yields", True)]


def no_heartbeats() -> list[Patch]:
    real = cadence.due_at
    return [(intake, "due_at", lambda memory, rules: real(memory, rules) if memory.state.news else None)]


def rings_for_nothing() -> list[Patch]:
    """A heartbeat is due, and is none."""
    real = cadence.reason_to_send

    def reason(*arguments: Any) -> cadence.Reason | None:
        found = real(*arguments)
        return None if found == "heartbeat" else found

    return [(intake, "reason_to_send", reason)]


def told_with_the_next_line() -> list[Patch]:
    """What had to wait, of a job that nobody vouches for."""
    real = cadence.due_at
    return [(intake, "due_at", lambda memory, rules: real(memory, rules) if memory.attached else None)]


def deaths_are_nobodys_affair() -> list[Patch]:
    return [(Intake, "producer_ended", lambda self, job_id, pid, share: None)]
