"""What Prometheus reads of the sidecar: the text, where it is served and to whom, and the balance at every scrape."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sbc_daemon import metrics_server
from sbc_daemon.config import Metrics, SidecarSettings
from sbc_daemon.control import bind
from sbc_daemon.ledger import Ledger
from sbc_daemon.metrics import Measured, exposition
from sbc_daemon.metrics_server import MAX_CONNECTIONS, MetricsServer
from sbc_daemon.outbox import Figures
from testbed.installation import sidecar_settings
from testbed.memory_disk import MemoryDisk
from testbed.memory_outbox import MemoryOutbox
from testbed.processes import Daemon, free_port
from tests.support.virtual_clock import run_virtual
from tests.test_sidecar import World, lives

MEASURED = Measured(
    version='0.1.0"\n',
    started_at=1_760_000_000.25,
    wall=1_760_000_100.0,
    figures=Figures(
        states=1,
        progress=2,
        samples=3,
        dead_letters=1,
        bytes_used=4096,
        oldest_wall=1_760_000_090.0,
        in_memory=4,
        moved_aside=1,
        ledger=Ledger(accepted=20, delivered=5, superseded=2, evicted=1, dead=1, lost=1, letters_deleted=6),
    ),
    max_bytes=64 << 20,
    connections=3,
    running=2,
    attached=1,
    link="down",
    held={404: 7},
    counters={
        name: place
        for place, name in enumerate(
            ("lines", "bad_lines", "kept", "refused", "delivered", "duplicate", "stale", "final", "retried", "rejected")
        )
    },
)


def read(text: str) -> dict[str, float]:
    """Every sample by its name and labels, as they are written."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def assert_balanced(text: str) -> dict[str, float]:
    found = read(text)
    ended = sum(value for name, value in found.items() if name.startswith("sbc_messages_ended_total"))
    waiting = sum(value for name, value in found.items() if name.startswith("sbc_messages_waiting"))
    assert found["sbc_messages_accepted_total"] == ended + waiting, text
    return found


def test_the_text_is_what_prometheus_reads() -> None:
    found = assert_balanced(exposition(MEASURED))
    assert found["sbc_messages_waiting{kind=memory}"] == 4
    assert found["sbc_jobs_held{status=404}"] == 7
    assert found["sbc_outbox_oldest_seconds"] == 10
    assert [found[f"sbc_hub_link{{state={state}}}"] for state in ("up", "down", "unknown")] == [0, 1, 0]
    assert found['sbc_build_info{version=0.1.0"\n}'] == 1
    assert found["sbc_start_time_seconds"] == 1_760_000_000.25


def test_every_series_has_its_help_its_type_and_the_prefix() -> None:
    families = list(text_string_to_metric_families(exposition(MEASURED)))
    assert all(family.name.startswith("sbc_") and family.documentation.endswith(".") for family in families)
    assert {family.type for family in families} == {"counter", "gauge"}


def test_the_runbook_explains_every_series() -> None:
    page = Path(__file__).parent.parent.joinpath("docs", "operations.md").read_text("utf-8")
    told = set(re.findall(r"^\| `(sbc_\w+)", page, re.M))
    assert told == set(re.findall(r"^# TYPE (\w+)", exposition(MEASURED), re.M))


def test_the_balance_holds_at_every_scrape_through_outages_refusals_and_restarts() -> None:
    async def scraped(world: World) -> dict[str, float]:
        return assert_balanced(await world.sidecar.scrape())

    async def work(world: World, job: str, seconds: int) -> None:
        producer = world.connect()
        producer.feed(b'{"job_id":"%s","total_bytes":1000}\n' % job.encode())
        for second in range(seconds):
            producer.feed(b'{"bytes_transferred":%d}\n' % second)
            await asyncio.sleep(1)
            await scraped(world)

    async def before(world: World) -> None:
        await work(world, "j1", 20)
        world.hub.away = True
        await work(world, "j2", 200)
        found = await scraped(world)
        assert found["sbc_messages_waiting{kind=sample}"] > 0
        assert found["sbc_messages_ended_total{result=superseded}"] > 0
        assert found["sbc_hub_link{state=down}"] == 1

    async def after(world: World) -> None:
        found = await scraped(world)
        assert found["sbc_messages_waiting{kind=sample}"] > 0
        world.hub.away = False
        await asyncio.sleep(10)
        found = await scraped(world)
        assert sum(value for name, value in found.items() if name.startswith("sbc_messages_waiting")) == 0

    lives(before, after)


def test_the_balance_holds_through_dead_letters_a_full_disk_and_the_cap() -> None:
    disk = MemoryDisk()
    world = World()
    world.outbox = MemoryOutbox(256 << 10, disk)

    async def story(world: World) -> None:
        async def settled(seconds: float = 6.0) -> dict[str, float]:
            await asyncio.sleep(seconds)
            return assert_balanced(await world.sidecar.scrape())

        producer = world.connect()
        world.hub.refuses = True
        producer.feed(b'{"job_id":"j1"}\n{"job_id":"j2","status":"completed"}\n{"job_id":"j3"}\n')
        found = await settled()
        assert (found["sbc_dead_letters"], found["sbc_messages_ended_total{result=dead}"]) == (3, 3)
        letters = [letter.letter_id for letter in await world.sidecar.dead_letters.all()]
        await world.sidecar.dead_letters.retry(letters[:1], 0)
        found = await settled()
        assert (found["sbc_dead_letters"], found["sbc_messages_ended_total{result=dead}"]) == (3, 4)
        world.hub.refuses = False
        await world.sidecar.dead_letters.delete(letters[1:2], 0)
        await world.sidecar.dead_letters.retry(None, 0)
        found = await settled()
        assert (found["sbc_dead_letters"], found["sbc_messages_ended_total{result=delivered}"]) == (0, 2)
        assert found["sbc_dead_letters_gone_total{how=deleted}"] == 1
        disk.failure = "no space left"
        producer.feed(b'{"job_id":"j1","current_phase":"transferring"}\n')
        found = await settled()
        assert found["sbc_messages_refused_total"] > 0
        world.hub.away = True
        producer.feed(b'{"job_id":"j1","current_phase":"finalizing"}\n')
        found = await settled()
        assert found["sbc_messages_waiting{kind=memory}"] == 1
        disk.failure = None
        for n in range(600):
            producer.feed(b'{"job_id":"filler-%d","current_phase":"%s"}\n' % (n, b"x" * 50))
            await settled(0.1)
        found = await settled()
        assert found["sbc_messages_waiting{kind=memory}"] > 0
        world.hub.away = False
        found = await settled(60.0)
        assert sum(value for name, value in found.items() if name.startswith("sbc_messages_waiting")) == 0

    run_virtual(world.live(story), world.clock)


async def text() -> str:
    return "sbc_x 1\n"


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    server = MetricsServer(text)
    await server.start(str(tmp_path / "metrics.sock"))
    yield tmp_path / "metrics.sock"
    await server.close()
    assert not (tmp_path / "metrics.sock").exists()


async def said(path: Path, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def test_it_is_served_on_a_unix_socket(path: Path) -> None:
    head, _, body = (await said(path, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
    assert body == b"sbc_x 1\n"
    assert (await said(path, b"HEAD /metrics HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"GET / HTTP/1.1", b"404"), (b"POST /metrics HTTP/1.1", b"405"), (b"\xff\xfe", b"404"), (b"", b"404")],
)
async def test_nothing_else_is(path: Path, request_line: bytes, status: bytes) -> None:
    assert (await said(path, request_line + b"\r\n\r\n")).split()[1] == status


async def test_a_head_without_end_is_cut_off(path: Path) -> None:
    assert await said(path, b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20_000) == b""


async def test_who_keeps_it_waiting_is_cut_off_and_only_so_many_may_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "PATIENCE_SECONDS", 2.0)
    with contextlib.ExitStack() as connections:
        waiting = [await asyncio.open_unix_connection(path) for _ in range(MAX_CONNECTIONS)]
        for _, writer in waiting:
            connections.callback(writer.close)
        await asyncio.sleep(0)
        with contextlib.suppress(OSError):
            assert await said(path, b"GET /metrics HTTP/1.1\r\n\r\n") == b""
        assert [await reader.read() for reader, _ in waiting] == [b""] * MAX_CONNECTIONS
        assert b"200 OK" in await said(path, b"GET /metrics HTTP/1.1\r\n\r\n")


async def test_systemds_socket_is_used_and_its_file_stays(tmp_path: Path) -> None:
    server = MetricsServer(text)
    await server.start("", [bind(tmp_path / "theirs")])
    assert b"200 OK" in await said(tmp_path / "theirs", b"GET /metrics HTTP/1.0\r\n\r\n")
    await server.close()
    assert (tmp_path / "theirs").exists()


@pytest.mark.parametrize("listen", ["", "127.0.0.1:9469", "127.8.8.8:1", "[::1]:9469", "/run/x/metrics.sock"])
def test_loopback_and_paths_are_taken(listen: str) -> None:
    assert Metrics(listen).listen == listen


@pytest.mark.parametrize(
    "listen",
    ["0.0.0.0:9469", "[::]:9469", "10.0.0.1:9469", "localhost:9469", "127.0.0.1", "127.0.0.1:0", "::1:9469", "m.sock"],
)
def test_nothing_that_others_could_reach_is(listen: str) -> None:
    with pytest.raises(ValueError, match="must be a loopback address with its port, or an absolute path"):
        Metrics(listen)


@pytest.mark.integration
async def test_a_daemon_serves_its_figures_where_it_is_told_to(tmp_path: Path) -> None:
    port = free_port()
    settings: SidecarSettings = msgspec.structs.replace(
        sidecar_settings(tmp_path, "http://127.0.0.1:9"), metrics=Metrics(f"127.0.0.1:{port}")
    )
    with Daemon("sbc-daemon", tmp_path, settings), socket.socket(socket.AF_UNIX) as producer:
        producer.connect(settings.socket.path)
        producer.sendall(b'{"job_id":"j1","attach":true,"ack":1}\n')
        assert await asyncio.to_thread(producer.recv, 4096) == b'{"ack":1,"ok":true}\n'
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        found = assert_balanced((await reader.read()).decode().partition("\r\n\r\n")[2])
        writer.close()
    assert (found["sbc_lines_total"], found["sbc_jobs_running"], found["sbc_jobs_attached"]) == (1, 1, 1)
    assert (found["sbc_connections"], found["sbc_messages_waiting{kind=state}"]) == (1, 1)
