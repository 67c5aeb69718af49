"""A real backup on the client, followed on the hub over a real link; and what becomes of it when the link breaks."""

import pytest

from tests.appliance.backup import Backup
from tests.appliance.conftest import Pair
from tests.appliance.measured import Measured

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def backup(pair: Pair) -> Backup:
    """It runs through all the cuts of the link, and ends behind the last."""
    pair.hub.create_job("backup-1")
    backup = Backup(pair.client.node, "backup-1", 256)
    pair.hub.wait_for_job("backup-1", "status='running' AND bytes_transferred > 0")
    return backup


def test_a_backup_is_followed_on_the_hub_over_the_network(pair: Pair, backup: Backup) -> None:
    seen = pair.hub.job("backup-1")
    assert seen["status"] == "running"
    assert seen["current_phase"] == "transferring"
    pair.hub.wait_for_job("backup-1", f"bytes_transferred > {seen['bytes_transferred']} AND transfer_speed_bps > 0")
    assert "up" in pair.client.node.run("sbcctl", "status")


def test_a_short_cut_of_the_link_is_not_worth_a_word(pair: Pair, backup: Backup) -> None:
    """Ten seconds where a job is warned of after sixty: here a second where it is four."""
    start = pair.hub.now()
    pair.lab.cut(pair.hub.node, pair.client.node)
    moved_on(backup)
    pair.lab.heal()
    heard_again(pair)
    assert not pair.hub.said(start, "--priority=warning")


def test_a_longer_cut_is_warned_of_once_and_over_when_the_link_is_back(pair: Pair, backup: Backup) -> None:
    """Ninety seconds."""
    start = pair.hub.now()
    pair.lab.cut(pair.hub.node, pair.client.node)
    pair.hub.wait_for_message("job is silent ", start)
    moved_on(backup)
    pair.lab.heal()
    heard_again(pair)
    pair.hub.wait_for_message("job is silent no longer", start)
    assert (
        len(
            [
                line
                for line in pair.hub.said(start, "--priority=warning")
                if "job is silent " in line and "no longer" not in line
            ]
        )
        == 1
    )
    assert pair.hub.job("backup-1")["status"] == "running"


def test_a_long_cut_fails_the_job_and_its_return_revives_it(pair: Pair, backup: Backup, measured: Measured) -> None:
    """Six minutes."""
    start = pair.hub.now()
    pair.lab.cut(pair.hub.node, pair.client.node)
    measured(
        "verdict behind the cut (fail_seconds 20)",
        pair.hub.wait_for_message("job failed by the watchdog", start, 40),
        "s",
    )
    failed = pair.hub.job("backup-1")
    assert (failed["status"], failed["stalled"]) == ("failed", True)
    assert failed["error_message"].startswith("Job stalled - no telemetry for 2")
    assert failed["error_message"].endswith("s (SBC may have crashed)")
    moved_on(backup)
    assert "down" in pair.client.node.try_run("sbcctl", "status").stdout
    pair.lab.heal()
    measured("revival behind the link's return", pair.hub.wait_for_message("job revived", start), "s")
    revived = pair.hub.job("backup-1")
    assert (revived["status"], revived["error_message"], revived["completed_at"]) == ("running", None, None)


def test_the_backup_itself_never_noticed(pair: Pair, backup: Backup, measured: Measured) -> None:
    backup.hurry()
    assert backup.wait() == 0
    assert backup.is_whole()
    measured("end on the hub behind the backup's", pair.hub.wait_for_job("backup-1", "status='completed'"), "s")
    ended = pair.hub.job("backup-1")
    assert (ended["bytes_transferred"], ended["progress_percent"]) == (backup.size, 100.0)
    assert ended["error_message"] is None


def moved_on(backup: Backup) -> None:
    """Another MiB is there, whatever the hub hears: it takes a second."""
    before = backup.copied()
    backup.client.wait(f"[ $(stat -c %b /backup/{backup.job_id}/target.img) -gt {(before >> 9) + 2047} ]", 10)


def heard_again(pair: Pair) -> None:
    """The client's next message is in the database."""
    seq = pair.hub.job("backup-1")["seq"]
    pair.hub.wait_for_job("backup-1", f"telemetry_seq > {seq}")
