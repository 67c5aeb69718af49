"""Whom the sidecar takes for its hub: real handshakes with the hub's own front door, under CAs of our own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sbc_daemon.answers import Answer
from sbc_daemon.config import Hub
from sbc_daemon.hub_access import HubAccess
from sbc_daemon.hub_link import HttpHubLink
from sha_daemon.config import HubSettings, Tls
from telemetry_common.settings import SettingsError
from tests.support.certificates import Pair, authority, expired, server
from tests.support.front_door import FrontDoor, front_door

BODY = b'{"status":"running","seq":1}'


@pytest.fixture
def ca(tmp_path: Path) -> Pair:
    return authority(tmp_path)


@pytest.fixture
def other_ca(tmp_path: Path) -> Pair:
    directory = tmp_path / "other"
    directory.mkdir()
    return authority(directory)


@asynccontextmanager
async def hub_with(pair: Pair) -> AsyncIterator[FrontDoor]:
    async with front_door(HubSettings(tls=Tls(certificate=str(pair.certificate), key=str(pair.key)))) as door:
        yield door


@asynccontextmanager
async def link_to(door: FrontDoor, ca: Path | None) -> AsyncIterator[tuple[HttpHubLink, HubAccess]]:
    url = f"https://127.0.0.1:{door.port}"
    access = HubAccess(Hub(url=url, ca_file=str(ca or "")))
    link = HttpHubLink(url, 5.0, access)
    yield link, access
    await link.close()
    await asyncio.sleep(0)  # the connections say goodbye in the next turn


async def said(pair: Pair, ca: Path | None) -> Answer:
    async with hub_with(pair) as door, link_to(door, ca) as (link, _):
        return await link.post("j1", BODY)


async def test_a_hub_with_a_certificate_of_the_trusted_ca_is_told(tmp_path: Path, ca: Pair) -> None:
    async with hub_with(server(tmp_path, ca)) as door, link_to(door, ca.certificate) as (link, _):
        assert [(await link.post("j1", BODY)).status for _ in range(2)] == [204, 204]


async def test_without_a_ca_file_the_systems_cas_count(tmp_path: Path, ca: Pair) -> None:
    answer = await said(server(tmp_path, ca), None)
    assert answer.failure == "unreachable"
    assert answer.detail.startswith("the hub's certificate is not trusted: ")
    assert answer.detail.endswith("; hub.ca_file names the CA to trust")


async def test_another_cas_certificate_is_not_trusted(tmp_path: Path, ca: Pair, other_ca: Pair) -> None:
    answer = await said(server(tmp_path, ca), other_ca.certificate)
    assert answer.failure == "unreachable"
    assert answer.detail.startswith("the hub's certificate is not trusted: ")


async def test_a_certificate_for_another_address_is_not_trusted(tmp_path: Path, ca: Pair) -> None:
    answer = await said(server(tmp_path, ca, names="DNS:hub.example"), ca.certificate)
    expected = "the hub's certificate is not trusted: it is not for 127.0.0.1, the address in the hub's URL"
    assert (answer.failure, answer.detail) == ("unreachable", expected)


async def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path, ca: Pair) -> None:
    async with hub_with(server(tmp_path, ca)) as door:
        url = f"https://localhost:{door.port}"
        link = HttpHubLink(url, 5.0, HubAccess(Hub(url=url, ca_file=str(ca.certificate))))
        answer = await link.post("j1", BODY)
        await link.close()
    assert answer.detail == "the hub's certificate is not trusted: it is not for localhost, the name in the hub's URL"


async def test_an_expired_certificate_is_not_trusted(tmp_path: Path, ca: Pair) -> None:
    answer = await said(expired(tmp_path, ca), ca.certificate)
    expected = "the hub's certificate is not trusted: it has expired; is this machine's clock right?"
    assert (answer.failure, answer.detail) == ("unreachable", expected)


async def test_a_hub_without_tls_is_not_told_anything(ca: Pair) -> None:
    async with front_door() as door, link_to(door, ca.certificate) as (link, _):
        answer = await link.post("j1", BODY)
    assert answer.failure == "unreachable"
    assert answer.detail.startswith("no TLS with the hub: ")
    assert answer.detail.endswith("; is it https that it speaks there?")


async def test_after_a_reload_other_cas_count_also_for_a_connection_that_is_open(
    tmp_path: Path, ca: Pair, other_ca: Pair
) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(ca.certificate.read_bytes())
    async with hub_with(server(tmp_path, ca)) as door, link_to(door, trusted) as (link, access):
        assert (await link.post("j1", BODY)).status == 204
        trusted.write_bytes(other_ca.certificate.read_bytes())
        assert access.reloadable["trusted CAs"]() == str(trusted)
        assert (await link.post("j1", BODY)).failure == "unreachable"
        trusted.write_bytes(other_ca.certificate.read_bytes() + ca.certificate.read_bytes())
        access.reloadable["trusted CAs"]()
        assert (await link.post("j1", BODY)).status == 204


async def test_requests_under_way_are_answered_while_the_cas_are_read_again(tmp_path: Path, ca: Pair) -> None:
    async with hub_with(server(tmp_path, ca)) as door, link_to(door, ca.certificate) as (link, access):
        for _ in range(5):
            under_way = [asyncio.create_task(link.post("j1", BODY)) for _ in range(8)]
            await asyncio.sleep(0)
            access.reloadable["trusted CAs"]()
            under_way += [asyncio.create_task(link.post("j1", BODY)) for _ in range(8)]
            assert {answer.status for answer in await asyncio.gather(*under_way)} == {204}


def test_a_file_without_cas_stops_the_start_and_on_a_reload_what_is_trusted_stays(tmp_path: Path, ca: Pair) -> None:
    trusted = tmp_path / "trusted.pem"
    hub = Hub(url="https://hub.example", ca_file=str(trusted))
    with pytest.raises(SettingsError, match=f"cannot read {trusted}: No such file"):
        HubAccess(hub)
    trusted.write_bytes(ca.certificate.read_bytes())
    access = HubAccess(hub)
    before = access.tls
    for nonsense in (b"", b"no PEM", b"\xff\xfe", ca.key.read_bytes(), ca.certificate.read_bytes()[:200]):
        trusted.write_bytes(nonsense)
        with pytest.raises(SettingsError, match=f"cannot use {trusted}: .*; expected certificates of CAs, PEM"):
            access.reloadable["trusted CAs"]()
        assert access.tls is before


def test_without_tls_there_is_no_trust_to_read_again() -> None:
    access = HubAccess(Hub())
    assert (access.tls, access.reloadable) == (None, {})
