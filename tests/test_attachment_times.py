"""Who is held for how long: attachments with virtual time and processes that die when told."""

import asyncio
from collections.abc import Callable

import pytest

from sbc_daemon.attachments import GRACE_SECONDS, MAX_PROCESSES, Attachments
from sbc_daemon.complaints import Complaints
from sbc_daemon.processes import Peer, Process
from telemetry_common.contract import AttachedDisks
from tests.support.virtual_clock import VirtualClock, run_virtual


class FakeProcess:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.gone = False
        self.closed = False
        self._tell: Callable[[], None] = lambda: None

    def ended(self) -> bool:
        return self.gone

    def on_end(self, callback: Callable[[], None]) -> None:
        self._tell = callback

    def close(self) -> None:
        self.closed = True

    def dies(self) -> None:
        self.gone = True
        self._tell()


class Town:
    """Fake processes by pid, and what attachments did to the jobs."""

    def __init__(self) -> None:
        self.living: dict[int, FakeProcess] = {}
        self.told: list[tuple[object, ...]] = []
        self.attachments = Attachments(self, self, Complaints(VirtualClock()))

    def behind(self, peer: Peer) -> Process:
        return self.living.setdefault(peer.pid, FakeProcess(peer.pid))

    def named_by(self, pidfd: int) -> Process:
        return self.living.setdefault(pidfd, FakeProcess(pidfd))

    def attached(self, job_id: str) -> None:
        self.told.append(("attached", job_id))

    def detached(self, job_id: str) -> None:
        self.told.append(("detached", job_id))

    def producer_ended(self, job_id: str, pid: int, share: AttachedDisks | None) -> None:
        self.told.append(("ended", job_id, pid))

    def attach(self, job_id: str, pid: int, pidfd: int | None = None) -> None:
        self.attachments.attach(job_id, None, Peer(0, pid, None), pidfd)


def in_town(*steps: Callable[[Town], object], wait: float = 0.0) -> Town:
    town = Town()

    async def story() -> None:
        for step in steps:
            step(town)
        await asyncio.sleep(wait)

    run_virtual(story(), VirtualClock())
    return town


def test_a_producer_that_stays_away_leaves_its_job_unattached_after_the_grace() -> None:
    steps = (
        lambda town: town.attachments.connected(5),
        lambda town: town.attach("j1", 5),
        lambda town: town.attachments.disconnected(5),
    )
    assert in_town(*steps, wait=GRACE_SECONDS - 0.1).told == [("attached", "j1")]
    town = in_town(*steps, wait=GRACE_SECONDS + 0.1)
    assert town.told == [("attached", "j1"), ("detached", "j1")]
    assert town.living[5].closed


def test_a_producer_that_comes_back_in_time_stays_attached() -> None:
    town = in_town(
        lambda town: town.attachments.connected(5),
        lambda town: town.attach("j1", 5),
        lambda town: town.attachments.disconnected(5),
        lambda town: town.attachments.connected(5),
        wait=60.0,
    )
    assert town.told == [("attached", "j1")]


def test_a_process_named_by_its_pidfd_is_held_without_any_connection() -> None:
    town = in_town(
        lambda town: town.attachments.connected(6),
        lambda town: town.attach("j1", 6, pidfd=5),
        lambda town: town.attachments.disconnected(6),
        wait=600.0,
    )
    assert town.told == [("attached", "j1")]


def test_what_a_process_wrote_is_read_before_it_is_judged() -> None:
    def read_all(town: Town) -> None:
        town.attachments.read_all = lambda: town.told.append(("read",))

    town = in_town(read_all, lambda town: town.attach("j1", 5), lambda town: town.living[5].dies())
    assert town.told[1:] == [("read",), ("detached", "j1"), ("ended", "j1", 5)]


def test_a_reused_pid_is_another_process() -> None:
    def reused(town: Town) -> None:
        old = town.living.pop(5)
        old.gone = True
        town.attach("j2", 5)
        old.dies()

    town = in_town(lambda town: town.attach("j1", 5), reused)
    assert town.told[-1] == ("ended", "j1", 5)
    assert town.attachments.pids("j2") == (5,)
    assert town.attachments.pids("j1") == ()


def test_a_job_that_has_ended_holds_no_process() -> None:
    town = in_town(lambda town: town.attach("j1", 5), lambda town: town.attachments.release("j1"))
    assert town.told == [("attached", "j1"), ("detached", "j1")]
    assert town.living[5].closed


def test_attaching_twice_is_attaching_once() -> None:
    town = in_town(lambda town: town.attach("j1", 5), lambda town: town.attach("j1", 5))
    assert town.told == [("attached", "j1")]


def test_beyond_the_limit_jobs_go_on_unattached_nothing_stays_open_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def crowd(town: Town) -> None:
        for pid in range(1, MAX_PROCESSES + 51):
            town.attach(f"j{pid}", 9999, pidfd=pid)

    town = in_town(crowd)
    assert len(town.told) == MAX_PROCESSES
    assert all(town.living[pid].closed for pid in range(MAX_PROCESSES + 1, MAX_PROCESSES + 51))
    assert caplog.text.count("job goes on unattached") == 1
    assert f"cannot attach more than {MAX_PROCESSES} processes" in caplog.text


def test_a_process_that_is_held_takes_further_jobs_at_the_limit_and_an_end_makes_room() -> None:
    def crowd(town: Town) -> None:
        for pid in range(1, MAX_PROCESSES + 1):
            town.attach(f"j{pid}", pid)
        town.attach("another", 1)
        town.attachments.release("j2")
        town.attach("late", 5000)

    town = in_town(crowd)
    assert town.attachments.pids("another") == (1,)
    assert town.attachments.pids("late") == (5000,)
