"""The link to the hub over real sockets."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from sbc_daemon.config import Hub
from sbc_daemon.hub_access import HubAccess
from sbc_daemon.hub_link import MAX_ANSWER_BYTES, HttpHubLink
from telemetry_common import __version__
from tests.support.certificates import authority, server

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server on a loopback port with this handler for everything; its URL."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listener).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def link_to(
    url: str, timeout_seconds: float = 5.0, access: HubAccess | None = None, proxy: str | None = None
) -> AsyncIterator[HttpHubLink]:
    link = HttpHubLink(url, timeout_seconds, access or HubAccess(Hub()), proxy)
    yield link
    await link.close()


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


async def test_a_message_is_posted_as_json_to_its_jobs_path_on_a_kept_connection(serve: Serve) -> None:
    seen: list[web.Request] = []
    bodies: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        seen.append(request)
        bodies.append(await request.read())
        return web.Response(status=204, headers={"Telemetry-Seq": "7", "Telemetry-Status": "running", "X-Else": "1"})

    async with link_to(await serve(take) + "/") as link:
        answers = [await link.post("backup-1", b'{"a":1}'), await link.post("backup-1", b'{"a":2}')]
    assert answers[0].headers == {"telemetry-seq": "7", "telemetry-status": "running"}
    assert (seen[0].method, seen[0].path, bodies) == (
        "POST",
        "/api/v1/telemetry/backup/backup-1",
        [b'{"a":1}', b'{"a":2}'],
    )
    assert seen[0].headers["Content-Type"] == "application/json"
    assert seen[0].headers["User-Agent"] == f"sbc-daemon/{__version__}"
    assert seen[0].transport is seen[1].transport


@pytest.mark.parametrize("job_id", ["a/b", "a?b#c", "ä ö", "%2F", "..", "."])
async def test_any_job_id_stays_one_path_segment(serve: Serve, job_id: str) -> None:
    paths: list[str] = []

    async def take(request: web.Request) -> web.Response:
        paths.append(request.raw_path)
        return web.Response(status=204)

    async with link_to(await serve(take)) as link:
        assert (await link.post(job_id, b"{}")).status == 204
    (path,) = paths
    assert path.startswith("/api/v1/telemetry/backup/")
    assert path.count("/") == 5
    assert "?" not in path


async def test_the_hubs_reason_is_read_from_its_problem(serve: Serve) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.json_response({"title": "Bad", "detail": "`status` is\nmissing"}, status=400)

    async with link_to(await serve(refuse)) as link:
        answer = await link.post("j", b"{}")
    assert (answer.status, answer.detail) == (400, "`status` is\\nmissing")


async def test_a_problem_without_words_has_no_reason(serve: Serve) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.json_response({}, status=503)

    async with link_to(await serve(refuse)) as link:
        assert (await link.post("j", b"{}")).detail == ""


@pytest.mark.parametrize(
    "body", [b"<html>oops</html>", b"\xff\xfe", b"[" * 60_000, b"null", b"", b'{"detail": {"a": 1}}']
)
async def test_any_other_body_is_shown_escaped_and_short(serve: Serve, body: bytes) -> None:
    async def fail(_request: web.Request) -> web.Response:
        return web.Response(status=500, body=body)

    async with link_to(await serve(fail)) as link:
        answer = await link.post("j", b"{}")
    assert answer.status == 500
    assert answer.detail.isprintable()
    assert len(answer.detail) <= 2100


async def test_a_server_that_repeats_the_token_does_not_bring_it_into_the_journal(serve: Serve, tmp_path: Path) -> None:
    token_file = tmp_path / "hub.token"
    token_file.write_text("sbt_secret")
    token_file.chmod(0o600)

    async def repeat(request: web.Request) -> web.Response:
        return web.Response(status=502, text=f"cannot pass on {request.headers['Authorization']}")

    async with link_to(await serve(repeat), access=HubAccess(Hub(token_file=str(token_file)))) as link:
        assert (await link.post("j", b"{}")).detail == "cannot pass on Bearer ***"


async def test_a_batch_is_one_post_and_a_hub_without_batches_is_heard(serve: Serve) -> None:
    seen: list[tuple[str, bytes]] = []

    async def refuse(request: web.Request) -> web.Response:
        seen.append((request.path, await request.read()))
        return web.json_response({"title": "Not Found"}, status=404)

    async with link_to(await serve(refuse)) as link:
        answer = await link.post_batch([("a", b'{"job_id":"a"}'), ("b", b'{"job_id":"b"}')])
    assert (answer.status, answer.items, answer.detail) == (404, None, "Not Found")
    assert seen == [("/api/v1/telemetry/batch", b'{"updates":[{"job_id":"a"},{"job_id":"b"}]}')]


async def test_a_redirect_is_not_followed(serve: Serve) -> None:
    posts: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        posts.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with link_to(await serve(redirect)) as link:
        answer = await link.post("j", b"{}")
    assert (answer.status, answer.headers) == (307, {"location": "/elsewhere"})
    assert len(posts) == 1


async def test_a_slow_answer_is_a_timeout(serve: Serve) -> None:
    async def never(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async with link_to(await serve(never), timeout_seconds=0.1) as link:
        answer = await link.post("j", b"{}")
    assert (answer.failure, answer.detail) == ("timeout", "no answer within 0.1 s")


async def test_an_answer_that_trickles_for_ever_is_a_timeout(serve: Serve) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    async with link_to(await serve(trickle), timeout_seconds=0.1) as link:
        assert (await link.post("j", b"{}")).failure == "timeout"


async def test_a_refused_connection_is_unreachable() -> None:
    async with link_to(f"http://127.0.0.1:{closed_port()}") as link:
        answer = await link.post("j", b"{}")
    assert answer.failure == "unreachable"
    assert "127.0.0.1" in answer.detail


async def test_who_cannot_be_reached_is_said_in_plain_words() -> None:
    port = closed_port()
    async with link_to(f"http://127.0.0.1:{port}") as link:
        assert (await link.post("j", b"{}")).detail == f"cannot connect to 127.0.0.1:{port}: connection refused"


async def test_a_name_that_does_not_resolve_or_a_bad_url_is_unreachable() -> None:
    for url in ("http://no.such.host.invalid", "http://[bad", "nonsense"):
        async with link_to(url) as link:
            assert (await link.post("j", b"{}")).failure == "unreachable"


async def test_a_closed_connection_is_unreachable_and_the_next_message_goes_through(serve: Serve) -> None:
    cut = [True]

    async def hang_up_once(request: web.Request) -> web.Response:
        if cut.pop() if cut else False:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=204)

    async with link_to(await serve(hang_up_once)) as link:
        assert (await link.post("j", b"{}")).failure == "unreachable"
        assert (await link.post("j", b"{}")).status == 204


async def test_of_a_huge_answer_only_the_beginning_is_read(serve: Serve) -> None:
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(10_000):
                await response.write(b"x" * 65_536)
                sent += 65_536
        return response

    async with link_to(await serve(flood)) as link:
        answer = await link.post("j", b"{}")
    assert answer.status == 500
    assert answer.detail == "x" * 500
    assert sent < 200 * MAX_ANSWER_BYTES


async def test_garbage_instead_of_http_is_unreachable() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with link_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as link:
        assert (await link.post("j", b"{}")).failure == "unreachable"
    server.close()


async def test_proxy_variables_are_ignored(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async def take(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    async with link_to(await serve(take)) as link:
        assert (await link.post("j", b"{}")).status == 204


class Proxy:
    """An HTTP proxy with one hub behind it, whatever it is asked for; or one that refuses (`status`)."""

    def __init__(self, hub_port: int, status: str = "200 yes") -> None:
        self.asked: list[str] = []
        self._hub_port = hub_port
        self._status = status

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split(b"\r\n")[0].decode())
        if not self._status.startswith("200"):
            writer.write(f"HTTP/1.1 {self._status}\r\nContent-Length: 0\r\n\r\n".encode())
            writer.close()
            return
        inner_reader, inner = await asyncio.open_connection("127.0.0.1", self._hub_port)
        if head.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 200 yes\r\n\r\n")
        else:
            inner.write(head)
        await asyncio.gather(self._pass_on(reader, inner), self._pass_on(inner_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def running(proxy: Proxy) -> AsyncIterator[str]:
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def test_a_proxy_that_is_configured_is_gone_through(serve: Serve) -> None:
    async def take(_request: web.Request) -> web.Response:
        return web.Response(status=204, headers={"Telemetry-Seq": "7"})

    proxy = Proxy(int((await serve(take)).rpartition(":")[2]))
    async with running(proxy) as url, link_to("http://hub.example:8082", proxy=url) as link:
        answer = await link.post("j", b"{}")
    assert (answer.status, answer.headers["telemetry-seq"]) == (204, "7")
    assert proxy.asked == ["POST http://hub.example:8082/api/v1/telemetry/backup/j HTTP/1.1"]


async def test_tls_goes_through_the_proxy_to_the_hub_itself(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    pair = server(tmp_path, ca)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.certificate, pair.key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()

    hub = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    proxy = Proxy(hub.sockets[0].getsockname()[1])
    access = HubAccess(Hub(url="https://hub.example:8082", ca_file=str(ca.certificate)))
    async with running(proxy) as url, link_to("https://hub.example:8082", access=access, proxy=url) as link:
        assert (await link.post("j", b"{}")).status == 204
    assert proxy.asked == ["CONNECT hub.example:8082 HTTP/1.1"]
    hub.close()


async def test_what_a_proxy_refuses_is_no_answer_of_the_hub(tmp_path: Path) -> None:
    access = HubAccess(Hub(url="https://hub.example:8082", ca_file=str(authority(tmp_path).certificate)))
    async with (
        running(Proxy(0, "403 not there")) as url,
        link_to("https://hub.example:8082", access=access, proxy=url) as link,
    ):
        answer = await link.post("j", b"{}")
    assert answer.failure == "unreachable"
    assert answer.detail == f"the proxy {url} does not let it pass: 403 not there"


def test_a_hub_on_loopback_is_never_asked_through_the_proxy() -> None:
    hub = Hub(
        url="https://hub.example", fallback_urls=("http://127.0.0.1:8082", "http://localhost"), proxy_url="http://p"
    )
    assert [hub.proxy_for(url) for url in hub.urls] == ["http://p", None, None]
