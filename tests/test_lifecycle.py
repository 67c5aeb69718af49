"""What systemd hears: pings only while every part makes its turns, and one line of status."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from telemetry_common.lifecycle import Lifecycle, SystemdNotifier, watchdog_interval
from testbed.processes import Manager, clean_environment
from tests.support.virtual_clock import VirtualClock, run_virtual


class Heard:
    """The service manager's end."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def notify(self, state: str) -> None:
        self.states.append(state)

    @property
    def pings(self) -> int:
        return self.states.count("WATCHDOG=1")


def vouching(live: Callable[[Lifecycle, Heard], Awaitable[None]]) -> Heard:
    """What was heard while a daemon that pings each second lived through `live`, in virtual time."""
    clock, heard = VirtualClock(), Heard()

    async def main() -> None:
        lifecycle = Lifecycle(heard, clock)
        task = asyncio.create_task(lifecycle.vouch(lambda: "3 jobs\nrunning", 1.0))
        await live(lifecycle, heard)
        task.cancel()

    run_virtual(main(), clock)
    return heard


def test_a_part_that_makes_its_turns_is_vouched_for() -> None:
    async def live(lifecycle: Lifecycle, heard: Heard) -> None:
        pulse = lifecycle.pulse("writer", allowed=2)
        for _ in range(10):
            await asyncio.sleep(1)
            pulse.beat()

    assert vouching(live).pings >= 10


def test_one_stuck_part_stops_the_pings_although_the_others_move(caplog: pytest.LogCaptureFixture) -> None:
    async def live(lifecycle: Lifecycle, heard: Heard) -> None:
        lifecycle.pulse("writer", allowed=2)
        moving = lifecycle.pulse("sweep", allowed=2)
        for _ in range(20):
            await asyncio.sleep(1)
            moving.beat()

    assert 3 <= vouching(live).pings <= 4
    assert [record.message for record in caplog.records] == [
        "part is stuck; no watchdog ping until it moves part=writer"
    ]


def test_pings_go_on_when_the_part_moves_again(caplog: pytest.LogCaptureFixture) -> None:
    async def live(lifecycle: Lifecycle, heard: Heard) -> None:
        pulse = lifecycle.pulse("writer", allowed=2)
        await asyncio.sleep(10.5)
        before = heard.pings
        pulse.beat()
        await asyncio.sleep(2)
        assert heard.pings == before + 2

    vouching(live)
    assert caplog.records[-1].message == "part moves again part=writer"


def test_a_daemon_that_stood_still_says_so_and_blames_no_part(caplog: pytest.LogCaptureFixture) -> None:
    clock, heard = VirtualClock(), Heard()

    async def main() -> None:
        lifecycle = Lifecycle(heard, clock)
        pulse = lifecycle.pulse("writer", allowed=2)
        task = asyncio.create_task(lifecycle.vouch(lambda: "", 1.0))
        await asyncio.sleep(1.5)
        before, clock.now = heard.pings, clock.now + 600
        await asyncio.sleep(0.1)
        assert heard.pings == before + 1
        pulse.beat()
        await asyncio.sleep(2)
        assert heard.pings == before + 3
        task.cancel()

    run_virtual(main(), clock)
    assert [record.message for record in caplog.records] == ["the daemon stood still seconds=599.500"]


def test_the_status_is_told_at_each_turn_in_one_line_also_by_a_stuck_daemon() -> None:
    async def live(lifecycle: Lifecycle, heard: Heard) -> None:
        lifecycle.pulse("writer", allowed=1)
        await asyncio.sleep(9.5)

    assert vouching(live).states.count("STATUS=3 jobs running") == 10


def test_ready_and_stopping_carry_a_status_of_one_line() -> None:
    heard = Heard()
    lifecycle = Lifecycle(heard, VirtualClock())
    lifecycle.ready("up\nREADY=0")
    lifecycle.stopping("going")
    assert heard.states == ["READY=1\nSTATUS=up READY=0", "STOPPING=1\nSTATUS=going"]


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [
        ("30000000", None, 10.0),
        ("30000000", "this process", 10.0),
        ("30000000", "1", None),
        ("0", None, None),
        ("", None, None),
        ("soon", None, None),
        ("-5", None, None),
    ],
)
def test_pings_are_sent_only_where_systemd_asks_this_process(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str | None, interval: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "this process" else pid)
    assert watchdog_interval() == interval


def test_ready_arrives_at_the_service_manager_whatever_the_status_says(tmp_path: Path) -> None:
    """In a process of its own, as a daemon has it: sdnotify keeps its socket to the end."""
    manager = Manager(tmp_path / "notify")
    code = (
        "from telemetry_common.lifecycle import Lifecycle, SystemdNotifier\n"
        "from telemetry_common.clock import SystemClock\n"
        "Lifecycle(SystemdNotifier(), SystemClock()).ready('база \u2019 gone')"
    )
    environment = clean_environment({"NOTIFY_SOCKET": str(manager.path)})
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert manager.wait_for("READY", 10)
    assert manager.status == "\\u0431\\u0430\\u0437\\u0430 \\u2019 gone"
    manager.close()


def test_without_a_service_manager_nothing_is_said_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    SystemdNotifier().notify("READY=1")
