"""The hub's figures: every one that an operator watches, and a balance that holds at whatever moment one looks."""

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sha_daemon.app import Hub
from sha_daemon.config import DatabaseSettings, HubSettings, Listen, Watchdog
from sha_daemon.tally import Distribution
from telemetry_common import __version__
from tests.support.databases import OnMariaDB, running
from tests.support.hub import Client, running_hub

PATH = "/api/v1/telemetry/backup"
REFUSALS = ("refused_final", "refused_unknown_job", "refused_by_database", "refused_unavailable")
Figures = dict[tuple[str, ...], float]


@dataclass
class World:
    hub: Hub
    client: Client
    tables: OnMariaDB

    async def scrape(self) -> Figures:
        """Every figure, by its name and the values of its labels (in the order of the labels' names)."""
        async with self.client.get("/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            text = await answer.text()
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def post(self, job_id: str, **values: object) -> int:
        async with self.client.post(f"{PATH}/{job_id}", json={"status": "running"} | values) as answer:
            return answer.status

    async def report(self, job_id: str, **values: object) -> None:
        """As a sender does: where the queue is full, again."""
        while await self.post(job_id, **values) == 503:
            await asyncio.sleep(0.01)


@pytest.fixture
async def world(migrated_database: DatabaseSettings) -> AsyncIterator[World]:
    settings = HubSettings(
        listen=Listen(max_queue=40), database=migrated_database, watchdog=Watchdog(interval_seconds=0.05)
    )
    tables = OnMariaDB(migrated_database)
    async with running_hub(settings) as (hub, client):
        yield World(hub, client, tables)
    await tables.database.close()
    tables.close()


def balance(figures: Figures) -> tuple[float, float]:
    """What was taken, and what became of it."""
    ends = sum(count for name, count in figures.items() if name[0] == "sha_updates_ended_total")
    return figures["sha_updates_accepted_total", "backup"], ends + figures["sha_updates_waiting", "backup"]


async def load(world: World) -> None:
    """Every end that an update can come to, at once."""
    posts = [
        *(world.report(f"running-{n % 5}", seq=n + 1, bytes_transferred=n) for n in range(60)),
        *(world.report("running-0", seq=1) for _ in range(10)),
        *(world.report("ended") for _ in range(5)),
        *(world.report("unknown") for _ in range(5)),
        *(world.report("poisoned", bytes_transferred=1) for _ in range(5)),
    ]
    await asyncio.gather(*posts)


async def test_accepted_is_stored_duplicate_stale_refused_and_waiting_at_every_scrape(world: World) -> None:
    for job_id in (*(f"running-{n}" for n in range(5)), "poisoned"):
        world.tables.add_job(running(job_id))
    world.tables.execute(
        "INSERT INTO backup_jobs (id, vm_name, backup_type, status) VALUES ('ended', 'vm', 'full', 'completed')"
    )
    world.tables.execute(
        "CREATE TRIGGER poison BEFORE UPDATE ON backup_jobs FOR EACH ROW"
        " IF NEW.id = 'poisoned' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END IF"
    )
    under_load = asyncio.gather(*(load(world) for _ in range(3)))
    waiting: list[float] = []
    while not under_load.done():
        figures = await world.scrape()
        accepted, accounted = balance(figures)
        assert accepted == accounted
        waiting.append(figures["sha_updates_waiting", "backup"])
    await under_load
    figures = await world.scrape()
    assert max(waiting) > 0
    assert figures["sha_updates_waiting", "backup"] == 0
    for end in ("stored", "duplicate", "stale", "refused_final", "refused_unknown_job", "refused_by_database"):
        assert figures["sha_updates_ended_total", "backup", end] > 0, end
    assert figures["sha_rejected_total", "POST", "queue_full"] > 0
    committed = sum(
        figures["sha_updates_ended_total", "backup", end] for end in ("stored", "duplicate", "stale", *REFUSALS[:2])
    )
    assert figures["sha_batch_updates_sum", "backup"] == committed


async def test_updates_that_the_database_could_not_take_are_in_the_balance_too(world: World) -> None:
    world.tables.execute("RENAME TABLE backup_jobs TO elsewhere")
    assert await world.post("j1") == 503
    figures = await world.scrape()
    assert figures["sha_updates_ended_total", "backup", "refused_unavailable"] == 1
    assert balance(figures) == (1, 1)
    assert figures["sha_rejected_total", "POST", "database_away"] == 1
    await world.hub.health.look()
    figures = await world.scrape()
    assert figures["sha_database_state", "not migrated"] == 1
    assert (figures["sha_database_state", "ok"], figures["sha_healthy",]) == (0, 0)


async def test_every_figure_that_an_operator_watches_is_there(world: World) -> None:
    figures = await world.scrape()
    names = {name[0] for name in figures}
    assert {
        "sha_updates_accepted_total",
        "sha_queue_updates",
        "sha_queue_bytes",
        "sha_queue_limit_updates",
        "sha_batch_updates_bucket",
        "sha_commit_seconds_bucket",
        "sha_jobs_revived_total",
        "sha_updates_with_rowless_disks_total",
        "sha_connections",
        "sha_connections_limit",
        "sha_connections_cut_off_total",
        "sha_turned_away_total",
        "sha_watchdog_silent_jobs",
        "sha_watchdog_never_heard_jobs",
        "sha_watchdog_failed_jobs_total",
        "sha_watchdog_sweeps_put_off_total",
        "sha_watchdog_sweep_seconds_bucket",
        "sha_listening_seconds_total",
        "sha_jobs",
        "sha_stream_readers",
        "sha_stream_readers_dropped_total",
        "sha_stream_readers_refused_total",
        "sha_history_samples_pruned_total",
        "process_resident_memory_bytes",
    } <= names
    assert (figures["sha_healthy",], figures["sha_database_state", "ok"]) == (1, 1)
    assert any(name[0] == "sha_build_info" and __version__ in name for name in figures)


async def test_the_watchdog_s_verdict_and_its_revival_are_counted(world: World) -> None:
    world.tables.add_job(running("lost"))
    assert await world.post("lost", seq=1) == 204
    world.tables.execute("UPDATE telemetry_listening SET listened_us = listened_us + 400000000")
    async with asyncio.timeout(10):
        while (await world.scrape())["sha_watchdog_failed_jobs_total", "backup"] == 0:
            await asyncio.sleep(0.02)
    assert await world.post("lost", seq=2) == 204
    figures = await world.scrape()
    assert figures["sha_jobs_revived_total",] == 1
    assert figures["sha_watchdog_sweep_seconds_count", "backup"] >= 1
    assert figures["sha_listening_seconds_total",] >= 400


@pytest.mark.parametrize(
    ("method", "path", "body", "reason"),
    [
        ("POST", f"{PATH}/j1", b"{}", "malformed"),
        ("POST", f"{PATH}/j1", b'{"x":"' + b"a" * (1 << 20) + b'"}', "too_large"),
        ("POST", f"{PATH}/unknown", b'{"status":"running"}', "unknown_job"),
        ("POST", "/api/v1/telemetry/restore/j1", b"{}", "unknown_job_type"),
        ("GET", f"{PATH}?limit=0", None, "malformed"),
        ("GET", "/nothing", None, "no_such_resource"),
        ("PATCH", "/api/v1/health", None, "method"),
    ],
)
async def test_a_request_that_is_refused_is_counted_by_its_reason(
    world: World, method: str, path: str, body: bytes | None, reason: str
) -> None:
    data = None if body is None else io.BytesIO(body)
    async with world.client.request(method, path, data=data, headers={"Content-Type": "application/json"}):
        pass
    counted = {name[1:]: n for name, n in (await world.scrape()).items() if name[0] == "sha_rejected_total"}
    assert counted == {(method if method != "PATCH" else "other", reason): 1}


def test_the_library_is_no_part_of_the_start() -> None:
    code = "import sys, sha_daemon.main; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("value", "place"), [(0.5, 0), (1, 0), (1.5, 1), (2, 1), (3, 2)])
def test_a_value_counts_below_its_bound_and_above_the_one_before(value: float, place: int) -> None:
    values = Distribution((1, 2))
    values.add(value)
    assert (values.counts[place], sum(values.counts), values.sum) == (1, 1, value)
