"""SIGHUP: what is read again, what is refused, and that no daemon dies of it."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sha_daemon.config import DatabaseSettings, HubSettings, Listen, Service
from telemetry_common.daemon import on_hangup
from telemetry_common.lifecycle import Lifecycle
from telemetry_common.reloading import Reloader
from telemetry_common.settings import SettingsError
from testbed.installation import hub_settings, sidecar_settings
from testbed.processes import Daemon
from tests.support.hub import Heard
from tests.support.stage import eventually
from tests.support.virtual_clock import VirtualClock

CANNOT = SettingsError("cannot use it")


class Slips:
    """A daemon with one file, and an operator who edits it and the settings."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.clock = VirtualClock()
        self.settings: HubSettings | SettingsError = HubSettings()
        self.file: str | SettingsError = "3 known"
        lifecycle = Lifecycle(self.heard, self.clock)
        self.reload = Reloader(
            lifecycle,
            lambda: "up",
            HubSettings(),
            self._read,
            lambda config: config.service.log_level,
            {"tokens": self._file},
        )

    def _read(self) -> HubSettings:
        if isinstance(self.settings, SettingsError):
            raise self.settings
        return self.settings

    def _file(self) -> str:
        if isinstance(self.file, SettingsError):
            raise self.file
        return self.file


@pytest.fixture
def slips(caplog: pytest.LogCaptureFixture) -> Slips:
    caplog.set_level("INFO")
    return Slips()


def test_systemd_hears_when_it_begins_and_when_it_is_over(slips: Slips) -> None:
    slips.clock.now = 7.5
    slips.reload()
    assert slips.heard.states == ["RELOADING=1\nMONOTONIC_USEC=7500000", "READY=1\nSTATUS=up"]


def test_what_was_read_again_is_logged(slips: Slips, caplog: pytest.LogCaptureFixture) -> None:
    slips.reload()
    assert caplog.messages == ['reloaded what=settings now="as they run"', 'reloaded what=tokens now="3 known"']


def test_each_changed_setting_is_named_as_needing_a_restart_as_long_as_it_does(
    slips: Slips, caplog: pytest.LogCaptureFixture
) -> None:
    slips.settings = HubSettings(listen=Listen(max_queue=5), service=Service(stop_seconds=3))
    for _ in range(2):
        caplog.clear()
        slips.reload()
        assert "changed settings need a restart keys=listen.max_queue,service.stop_seconds" in caplog.messages


def test_the_log_level_is_taken_over(slips: Slips, caplog: pytest.LogCaptureFixture) -> None:
    slips.settings = HubSettings(service=Service(log_level="warning"))
    slips.reload()
    assert "log level changed before=info now=warning" in caplog.messages
    slips.settings = HubSettings()
    slips.reload()
    assert "log level changed before=warning now=info" in caplog.messages
    assert not [message for message in caplog.messages if "restart" in message]


@pytest.mark.parametrize("broken", ["settings", "tokens"])
def test_what_cannot_be_used_is_refused_and_the_rest_is_read_again(
    slips: Slips, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    setattr(slips, {"settings": "settings", "tokens": "file"}[broken], CANNOT)
    slips.reload()
    refused = f'reload refused; what runs goes on what={broken} reason="cannot use it"'
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [refused]
    assert len([message for message in caplog.messages if message.startswith("reloaded ")]) == 1
    assert slips.heard.states[-1].startswith("READY=1")


@pytest.fixture
def handler() -> Iterator[None]:
    """What SIGHUP does to the tests is as before afterwards."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("handler")
async def test_a_hang_up_reloads_in_the_event_loop_and_one_that_comes_too_late_does_nothing() -> None:
    """Behind STOPPING=1 no reload may say READY=1."""
    reloaded = asyncio.Event()
    with on_hangup(reloaded.set):
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(reloaded.wait(), 10)
        reloaded.clear()
        os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not reloaded.is_set()


@pytest.mark.integration
def test_the_sidecar_says_what_needs_a_restart(tmp_path: Path) -> None:
    with Daemon("sbc-daemon", tmp_path, sidecar_settings(tmp_path, "http://127.0.0.1:9")) as sidecar:
        text = sidecar.config_file.read_text()
        sidecar.config_file.write_text(text.replace("max_in_flight = 8", "max_in_flight = 9"))
        sidecar.reload()
        assert "changed settings need a restart keys=hub.max_in_flight" in sidecar.log()


@pytest.mark.integration
def test_no_number_of_hang_ups_ends_a_hub_not_even_while_it_stops(tmp_path: Path) -> None:
    """Without a database: that stops no signal."""
    with Daemon("sha-daemon", tmp_path, hub_settings(DatabaseSettings(socket=str(tmp_path / "none.sock")))) as hub:
        pid = hub.pid
        assert pid is not None
        for _ in range(200):
            os.kill(pid, signal.SIGHUP)
        hub.reload()
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: hung_up_once_more_and_gone(pid))
        assert hub.stop() == 0


def hung_up_once_more_and_gone(pid: int) -> bool:
    """Whether the process is over; it stays a zombie until it is waited for."""
    os.kill(pid, signal.SIGHUP)
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
