"""Several ways to the hub: which is used, when the next is, and when an earlier one is again; in virtual time."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec import structs

from sbc_daemon.answers import Answer
from sbc_daemon.config import Hub
from sbc_daemon.hub_access import HubAccess
from sbc_daemon.hub_link import HttpHubLink
from sbc_daemon.hub_routes import BACK_SECONDS, HubRoutes
from sbc_daemon.status import HubState
from sha_daemon.config import DatabaseSettings
from testbed.installation import hub_settings, sidecar_settings
from testbed.mariadb import PrivateMariaDB
from testbed.processes import free_port
from tests.support.delivery import World
from tests.support.front_door import front_door
from tests.support.messages import message
from tests.support.scripted_hub import UNREACHABLE, ScriptedHub
from tests.support.stage import RealHub, RealSidecar, eventually

A, B, C = "http://a", "http://b", "http://c"


class Roads(World):
    """A forwarder with three ways to the hub; each counts its own posts."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (ScriptedHub(self.clock.monotonic, url=url) for url in (A, B, C))
        self.routes = HubRoutes([self.a, self.b, self.c])

    def tell(self, story: Callable[["Roads"], Awaitable[None]]) -> None:
        self.play(lambda _: story(self))

    async def report(self, seq: int, job: str = "job-1") -> None:
        await self.keep(message(seq, job=job))
        await asyncio.sleep(0.1)

    def taken(self) -> tuple[list[object], ...]:
        return tuple([post.update.seq for post in hub.posts] for hub in (self.a, self.b, self.c))

    def state(self) -> HubState:
        return self.forwarder.hub_state()


@pytest.fixture
def roads() -> Roads:
    return Roads()


def test_the_first_that_serves_is_used_and_no_other_is_asked(roads: Roads) -> None:
    async def story(w: Roads) -> None:
        await w.report(1)
        await asyncio.sleep(100.0)
        await w.report(2)
        assert w.taken() == ([1, 2], [], [])
        assert w.state().url == A

    roads.tell(story)


@pytest.mark.parametrize("answer", [UNREACHABLE, *(Answer(status=status) for status in (502, 503, 504))])
def test_where_one_does_not_serve_the_same_message_goes_on_to_the_next(roads: Roads, answer: Answer) -> None:
    async def story(w: Roads) -> None:
        w.a.special["job-1"] = [answer]
        w.b.up = False
        await w.report(1)
        assert w.taken() == ([1], [1], [1])
        await w.report(2)
        assert w.taken() == ([1], [1], [1, 2])
        assert (w.state().url, w.state().link) == (C, "up")
        assert w.forwarder.counters["retried"] == 0

    roads.tell(story)


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_a_hub_that_answers_is_not_left_for_what_it_thinks_of_a_message(roads: Roads, status: int) -> None:
    async def story(w: Roads) -> None:
        w.a.special["job-1"] = [Answer(status=status)]
        await w.report(1)
        assert w.taken() == ([1], [], [])
        assert w.state().url == A

    roads.tell(story)


def test_an_earlier_one_is_used_again_soon_after_it_is_back(roads: Roads, caplog: pytest.LogCaptureFixture) -> None:
    async def story(w: Roads) -> None:
        w.a.up = w.b.up = False
        await w.report(1)
        await asyncio.sleep(300.0)
        assert w.state().url == C
        w.b.up = True
        await asyncio.sleep(BACK_SECONDS)
        assert w.state().url == B
        w.a.up = True
        await asyncio.sleep(BACK_SECONDS)
        assert w.state().url == A
        await w.report(2)
        assert w.taken() == ([1, 2], [1], [1])

    roads.tell(story)
    assert caplog.messages == [
        f'hub is asked at another URL now={C} before={A} reason="connection refused"',
        f'hub is asked at another URL now={B} before={C} reason="it is back"',
        f'hub is asked at another URL now={A} before={B} reason="it is back"',
    ]


def test_one_that_takes_requests_and_answers_none_is_left_for_the_next(roads: Roads) -> None:
    async def story(w: Roads) -> None:
        await w.report(1)
        w.a.hung = True
        await w.keep(message(2))
        await asyncio.sleep(w.a.timeout_seconds + 1.0)
        assert w.taken() == ([1, 2], [2], [])
        await asyncio.sleep(5 * BACK_SECONDS)
        assert w.state().url == B

    roads.tell(story)


def test_a_job_that_alone_gets_no_answer_does_not_change_the_way_of_the_others(roads: Roads) -> None:
    async def story(w: Roads) -> None:
        w.a.hanging.add("bad")
        await w.keep(message(1, job="bad"))
        for n in range(60):
            await w.report(10 + n, f"good-{n}")
            await asyncio.sleep(1.0)
        assert w.state().url == A
        assert w.b.posts == []

    roads.tell(story)


def test_where_none_can_be_reached_the_reason_names_each_and_all_arrives_later(roads: Roads) -> None:
    async def story(w: Roads) -> None:
        w.a.up = w.b.up = w.c.up = False
        await w.report(1)
        await asyncio.sleep(60.0)
        assert w.state().link == "down"
        assert w.state().last_error == "; ".join(f"{url}: connection refused" for url in (A, B, C))
        w.c.up = True
        await asyncio.sleep(6.0)
        assert await w.empty()

    roads.tell(story)


def test_where_one_says_how_long_to_wait_and_none_serves_that_is_waited_for(roads: Roads) -> None:
    async def story(w: Roads) -> None:
        w.a.up = w.c.up = False
        w.b.special["job-1"] = [Answer(status=503, headers={"retry-after": "20"})]
        await w.report(1)
        await asyncio.sleep(19.0)
        assert len(w.b.posts) == 1
        await asyncio.sleep(8.0)
        assert await w.empty()

    roads.tell(story)


def test_that_one_hub_takes_no_batches_is_not_held_against_another(roads: Roads) -> None:
    async def story(w: Roads) -> None:
        w.b.said_of_batches = [Answer(status=404)] * 100
        w.a.up = False
        await w.keep(*(message(n, job=f"j{n}") for n in range(1, 101)))
        await asyncio.sleep(5.0)
        assert await w.empty()
        assert len(w.b.batches) == 1
        w.a.up = True
        await asyncio.sleep(BACK_SECONDS)
        w.a.batches.clear()
        await w.keep(*(message(n, job=f"j{n}") for n in range(101, 201)))
        await asyncio.sleep(1.0)
        assert await w.empty()
        assert len(w.a.batches) == 1

    roads.tell(story)


async def test_a_hub_that_is_ready_is_alive_and_a_port_without_one_is_not() -> None:
    async with front_door() as door:
        url = f"http://127.0.0.1:{door.port}"
        link = HttpHubLink(url, 5.0, HubAccess(Hub(url=url)))
        assert await link.alive()
        await link.close()
    gone = HttpHubLink(url, 5.0, HubAccess(Hub(url=url)))
    assert not await gone.alive()
    await gone.close()


@pytest.mark.integration
def test_when_one_of_two_real_hubs_dies_the_other_is_told(
    tmp_path: Path, migrated_database: DatabaseSettings, mariadb_server: PrivateMariaDB
) -> None:
    directories = [tmp_path / name for name in ("one", "two")]
    for directory in directories:
        directory.mkdir()
    one, two = (RealHub(each, hub_settings(migrated_database), mariadb_server) for each in directories)
    settings = sidecar_settings(tmp_path, one.url)
    unused = f"http://127.0.0.1:{free_port()}"
    settings = structs.replace(settings, hub=Hub(url=one.url, fallback_urls=(unused, two.url)))
    with one, two, RealSidecar(tmp_path, settings) as sidecar:
        one.create_job("backup-1")
        assert sidecar.ask(job_id="backup-1", status="running", bytes_transferred=5)["ok"]
        one.wait_for("backup-1", "running")
        one.kill()
        assert sidecar.ask(job_id="backup-1", status="completed", bytes_transferred=9)["ok"]
        two.wait_for("backup-1", "completed")
        eventually(lambda: re.search(f"hub is asked at another URL now={two.url} before={one.url}", sidecar.log()))
