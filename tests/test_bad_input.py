"""Bodies that no sender would send, straight at the receiving code: none is a fault, and no row comes to harm.

With those of `test_bad_requests` they are 200,000. What fails is written to golden/found/, and sent again in every run
from then on.
"""

import gc
import logging
from collections import Counter
from collections.abc import Sequence

import pytest
from msgspec import structs

from sha_daemon.app import Hub
from sha_daemon.config import HubSettings
from sha_daemon.records import Disk
from telemetry_common.clock import SystemClock
from telemetry_common.lifecycle import Lifecycle
from testbed.memory_database import MemoryDatabase
from tests.support.bad_bodies import LEGAL_ANSWERS, answer, one_round
from tests.support.databases import Prepared, running, stored
from tests.support.found import found, originals
from tests.support.hub import Heard, virtual_hub
from tests.support.legal import wrong
from tests.support.memory import resident_bytes
from tests.support.mutations import Mutator

SEEDS, ROUNDS, BODIES = range(4), 4, 11_000
MAX_GROWTH_BYTES = 8 << 20
"""Of resident memory, from the end of the first round to the last. A leak of every second body would be more."""


def is_grown(resident: Sequence[int]) -> bool:
    return resident[-1] - resident[0] > MAX_GROWTH_BYTES


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the hub says that it should not: errors, and tracebacks of any level."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_body_is_a_fault_of_the_receiving_code(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    mutator, answers, resident = Mutator(originals(), seed), Counter[int](), list[int]()
    with caplog.at_level(logging.WARNING):
        for _ in range(ROUNDS):
            database = MemoryDatabase(SystemClock())
            async with virtual_hub(database, SystemClock()) as hub:
                await one_round(hub, database, mutator, answers, BODIES)
            gc.collect()
            resident.append(resident_bytes("self"))
    assert complaints(caplog) == []
    assert answers.total() == ROUNDS * BODIES
    assert min(answers[204], answers[400]) > answers.total() / 10
    assert not is_grown(resident), resident


async def test_what_a_fault_was_ever_found_with_is_harmless_now(prepared: Prepared) -> None:
    clock = SystemClock()
    hub = Hub(HubSettings(), clock, lambda *_: prepared.database, Lifecycle(Heard(), clock))
    async with hub.running(ping_seconds=5.0):
        for name, messages in found().items():
            prepared.add_job(running(name))
            for message in messages:
                assert await answer(hub, name, message) in LEGAL_ANSWERS, name
            assert not wrong(running(name), await stored(prepared, name)), name


async def test_the_order_of_a_job_cannot_be_spoilt_for_ever_by_a_number() -> None:
    database = MemoryDatabase(SystemClock())
    database.add_job(running("j1"))
    async with virtual_hub(database, SystemClock()) as hub:
        assert await answer(hub, "j1", found()["poisons-the-order"][0]) == 400
        assert await answer(hub, "j1", b'{"status":"running","seq":1760106225000001,"bytes_transferred":7}') == 204
    assert database.tables.jobs["j1"].job.bytes_transferred == 7


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"bytes_transferred": 4}, "bytes"),
        ({"progress_percent": 100.5}, "percent"),
        ({"seq": 6}, "seq"),
        ({"status": "completed", "progress_percent": 100.0}, "time of the end"),
        ({"disks": ()}, "disks"),
    ],
)
def test_a_row_that_came_to_harm_would_be_noticed(change: dict[str, object], named: str) -> None:
    before = running("j1", bytes_transferred=5, seq=7, disks=(Disk(disk_index=0),))
    assert wrong(before, before) == []
    assert wrong(before, structs.replace(before, **change)) == [named]
