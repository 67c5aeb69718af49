"""TLS at the hub's door, with a CA of our own."""

import asyncio
import hashlib
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sha_daemon.config import HubSettings, Listen, Tls
from sha_daemon.tls import Certificate
from telemetry_common.settings import SettingsError
from tests.support.certificates import Pair, authority, encrypted, server
from tests.support.front_door import FrontDoor, answer, end, front_door, request

GET = request("GET", "/api/v1/health")
PATIENCE = 0.4


@pytest.fixture
def ca(tmp_path: Path) -> Pair:
    return authority(tmp_path)


@pytest.fixture
def pair(tmp_path: Path, ca: Pair) -> Pair:
    """What the hub is configured with."""
    return server(tmp_path, ca)


@asynccontextmanager
async def hub_with(pair: Pair, listen: Listen | None = None) -> AsyncIterator[FrontDoor]:
    settings = HubSettings(listen=listen or Listen(), tls=Tls(certificate=str(pair.certificate), key=str(pair.key)))
    async with front_door(settings) as door:
        yield door


@pytest.fixture
async def door(pair: Pair) -> AsyncIterator[FrontDoor]:
    async with hub_with(pair) as opened:
        yield opened


def trusting(ca: Pair) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca.certificate))


def served_by(writer: asyncio.StreamWriter) -> str:
    found: ssl.SSLObject = writer.get_extra_info("ssl_object")
    der = found.getpeercert(binary_form=True)
    assert der is not None
    return hashlib.sha256(der).hexdigest()


def fingerprint(pair: Pair) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())).hexdigest()


async def test_who_trusts_the_ca_is_answered_over_tls(door: FrontDoor, ca: Pair, pair: Pair) -> None:
    reader, writer = await door.connect(trusting(ca))
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    assert served_by(writer) == fingerprint(pair)
    for _ in range(2):
        writer.write(GET)
        assert (await answer(reader)).status == 200
    writer.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "taken"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
async def test_nothing_older_than_tls_1_2_is_spoken(
    door: FrontDoor, ca: Pair, version: ssl.TLSVersion, taken: bool
) -> None:
    context = trusting(ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    try:
        _, writer = await door.connect(context)
        writer.close()
    except (ssl.SSLError, ConnectionResetError):
        assert not taken
    else:
        assert taken


async def test_a_new_certificate_is_served_after_a_reload_and_connections_stay(
    door: FrontDoor, tmp_path: Path, ca: Pair, pair: Pair
) -> None:
    reader, writer = await door.connect(trusting(ca))
    before = fingerprint(pair)
    renewed = server(tmp_path, ca, "renewed")
    renewed.certificate.rename(pair.certificate)
    renewed.key.rename(pair.key)
    assert door.edge.reloadable["certificate"]() == str(pair.certificate)
    _, other = await door.connect(trusting(ca))
    assert served_by(other) == fingerprint(pair) != before
    writer.write(GET)
    assert (await answer(reader)).status == 200
    assert served_by(writer) == before
    writer.close()
    other.close()


async def test_a_broken_pair_is_refused_on_reload_and_the_running_one_goes_on(
    door: FrontDoor, tmp_path: Path, ca: Pair, pair: Pair
) -> None:
    running = fingerprint(pair)
    server(tmp_path, ca, "other").certificate.rename(pair.certificate)
    with pytest.raises(SettingsError, match="key values mismatch"):
        door.edge.reloadable["certificate"]()
    _, writer = await door.connect(trusting(ca))
    assert served_by(writer) == running
    writer.close()


def test_what_is_no_pair_stops_the_start_naming_the_file(tmp_path: Path, ca: Pair, pair: Pair) -> None:
    nothing, other = tmp_path / "none.pem", server(tmp_path, ca, "other")
    words = tmp_path / "words.pem"
    words.write_text("no PEM")
    for certificate, key, complaint in (
        (nothing, pair.key, f"cannot read {nothing} (tls.certificate): No such file or directory"),
        (pair.certificate, nothing, f"cannot read {nothing} (tls.key): No such file or directory"),
        (words, pair.key, f"cannot use {words} with {pair.key} (tls.certificate, tls.key): "),
        (
            pair.certificate,
            words,
            f"cannot use {pair.certificate} with {words} (tls.certificate, tls.key): expected PEM, and a pair",
        ),
        (pair.certificate, other.key, "(tls.certificate, tls.key): expected PEM, and a pair (key values mismatch)"),
        (pair.certificate, encrypted(pair), "cannot use tls.key: it has a passphrase"),
    ):
        with pytest.raises(SettingsError, match=re.escape(complaint)):
            Certificate(certificate, key)


async def test_who_speaks_no_tls_is_closed(door: FrontDoor) -> None:
    reader, writer = await door.connect()
    writer.write(GET)
    assert b"HTTP" not in await end(reader)
    writer.close()


async def test_a_handshake_that_does_not_come_is_cut_off(pair: Pair) -> None:
    async with hub_with(pair, Listen(patience_seconds=PATIENCE)) as door:
        reader, writer = await door.connect()
        writer.write(b"\x16\x03\x01")
        await end(reader)
        writer.close()


async def test_a_head_that_does_not_come_after_the_handshake_is_cut_off(pair: Pair, ca: Pair) -> None:
    async with hub_with(pair, Listen(patience_seconds=PATIENCE)) as door:
        reader, writer = await door.connect(trusting(ca))
        writer.write(GET[:20])
        await end(reader)
        assert door.connections.cut_off == 1
        writer.close()


async def test_handshakes_count_as_connections_until_they_fail(pair: Pair, ca: Pair) -> None:
    async with hub_with(pair, Listen(max_connections=3)) as door:
        waiting = [await door.connect() for _ in range(3)]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await door.connect(trusting(ca))
        for reader, writer in waiting:
            writer.write(b"this is no handshake")
            await end(reader)
            writer.close()
        _, writer = await door.connect(trusting(ca))
        writer.close()


async def test_who_does_not_take_an_answer_over_tls_is_cut_off(pair: Pair, ca: Pair) -> None:
    """Bytes wait in two buffers then, of TLS and of the socket."""
    async with hub_with(pair, Listen(patience_seconds=PATIENCE)) as door:
        loop, plain = asyncio.get_running_loop(), socket.socket()
        plain.setblocking(False)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(plain, ("127.0.0.1", door.port))
        _, writer = await asyncio.open_connection(
            sock=plain, ssl=trusting(ca), server_hostname="hub.example", limit=1024
        )
        writer.write(GET * 20_000)
        async with asyncio.timeout(20):
            while door.connections.count:
                await asyncio.sleep(PATIENCE / 10)
        assert door.connections.cut_off == 1
        writer.transport.abort()
