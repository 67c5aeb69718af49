"""The senders already in the field must work unchanged: their whole jobs, on every kind of tables they report to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sha_daemon.config import DatabaseSettings, HubSettings
from testbed.mariadb import PrivateMariaDB
from tests.support.conversations import DIRECTORY, Made, made, play, steps
from tests.support.hub import running_hub
from tests.support.live_hub import LIVE_HUB, Hub

pytestmark = pytest.mark.integration

OTHER_TYPES = """
ALTER TABLE backup_jobs ADD COLUMN current_phase VARCHAR(255) DEFAULT NULL, ADD COLUMN transfer_speed_bps DOUBLE NULL,
  ADD COLUMN eta_seconds DOUBLE NULL, ADD COLUMN progress_percent DOUBLE NULL;
ALTER TABLE backup_disks ADD COLUMN progress_percent DOUBLE DEFAULT 0;
"""
"""Telemetry columns as a hub may have them already."""


KINDS = {"bare": "", "live": LIVE_HUB.read_text(), "types": LIVE_HUB.read_text() + OTHER_TYPES}


@pytest.fixture(scope="module", params=KINDS)
def tables(request: pytest.FixtureRequest, mariadb_server: PrivateMariaDB) -> Iterator[Hub]:
    """A hub with nothing of its own, an appliance, and an appliance with telemetry columns of other types."""
    name = mariadb_server.new_database(f"telemetry_{request.param}")
    hub = Hub(DatabaseSettings(name=name, user=mariadb_server.user, socket=str(mariadb_server.socket)))
    hub.run(KINDS[request.param])
    hub.migrate()
    yield hub
    hub.link.execute(f"DROP DATABASE {name}")
    hub.link.close()


@pytest.mark.parametrize("file", sorted(DIRECTORY.glob("*.jsonl")), ids=lambda file: file.stem)
async def test_conversation_of_a_sender_in_the_field(file: Path, tables: Hub) -> None:
    await play(steps(file), tables)


async def test_figures_in_columns_of_other_types_are_whole_numbers_to_the_hub(tables: Hub) -> None:
    says = {"status": "running", "bytes_transferred": 5, "transfer_speed_bps": 2**63 - 1, "eta_seconds": 10**12}
    path = made(Made(job="pending"), tables)
    async with running_hub(HubSettings(database=tables.settings)) as (_, client):
        for said in (says, {"status": "running"}):
            async with client.post(path, json=said) as answer:
                assert answer.status == 204
        async with client.get(path) as answer:
            text = await answer.text()
    assert '"transfer_speed_bps":9223372036854775807,"eta_seconds":2147483647,' in text
