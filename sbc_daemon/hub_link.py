"""Messages to the hub, its answers back. Nothing here decides what an answer means.

A failure is a value (`Answer.failure`), not an exception: it is as ordinary as any other answer.
"""

import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol
from urllib.parse import quote

import aiohttp
from yarl import URL

from sbc_daemon.answers import Answer, Failure
from sbc_daemon.hub_access import HubAccess
from sbc_daemon.hub_answers import read_answer, read_batch_answer
from sbc_daemon.hub_trust import distrust, no_tls
from telemetry_common import __version__
from telemetry_common.text import printable

MAX_ANSWER_BYTES = 64 << 10
MAX_BATCH_ANSWER_BYTES = 1 << 20
CONNECT_SECONDS = 3.0
"""A hub that is there accepts at once (TLS included); one that is not must not hold up the search for it."""
_HEADERS = {"Content-Type": "application/json", "User-Agent": f"sbc-daemon/{__version__}"}
_KEPT_HEADERS = ("telemetry-result", "telemetry-seq", "telemetry-status", "retry-after", "location")
_Read = Callable[[int, Mapping[str, str], bytes], Answer]


class HubLink(Protocol):
    @property
    def url(self) -> str:
        """Where the hub is asked now."""

    async def post(self, job_id: str, body: bytes) -> Answer:
        """Hand one message to the hub. Never raises for what the network or the hub does."""

    async def post_batch(self, messages: Sequence[tuple[str, bytes]]) -> Answer:
        """Hand over messages of several jobs (id and body), at most 500, in one request. Never raises as `post`.

        The answer has `items`, one a message in order, where the hub answered each.
        """

    async def tend(self) -> None:
        """For ever: what has to be done besides. Runs as a task of its own."""

    async def close(self) -> None: ...


class _Pool:
    """The kept-alive connections of one stretch of luck, and how many requests use them."""

    def __init__(self, timeout_seconds: float, tls: ssl.SSLContext | None) -> None:
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=min(CONNECT_SECONDS, timeout_seconds))
        self.tls = tls
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls or True),
            timeout=timeout,
            headers=_HEADERS,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self.in_use = 0


class HttpHubLink:
    """One way to the hub: POST {url}/api/v1/telemetry/... No redirects, only trusted hubs, bounded answers.

    `proxy` is the HTTP proxy to go through; what the environment says of proxies counts for nothing.

    After a failure the next request connects anew: an idle connection to a hub that was replaced behind an address
    would swallow the next message until its timeout.
    """

    def __init__(self, url: str, timeout_seconds: float, access: HubAccess, proxy: str | None = None) -> None:
        self.url = url
        self._base = url.rstrip("/") + "/api/v1/"
        self._timeout_seconds = timeout_seconds
        self._access = access
        self._proxy = proxy
        self._pool: _Pool | None = None

    async def post(self, job_id: str, body: bytes) -> Answer:
        return await self._request(f"telemetry/backup/{quote(job_id, safe='')}", body, MAX_ANSWER_BYTES, read_answer)

    async def post_batch(self, messages: Sequence[tuple[str, bytes]]) -> Answer:
        body = b'{"updates":[' + b",".join(body for _, body in messages) + b"]}"
        read = partial(read_batch_answer, job_ids=[job_id for job_id, _ in messages])
        return await self._request("telemetry/batch", body, MAX_BATCH_ANSWER_BYTES, read)

    async def alive(self) -> bool:
        return (await self._request("health", None, MAX_ANSWER_BYTES, read_answer)).status == 200

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.session.close()

    async def _request(self, path: str, body: bytes | None, most_bytes: int, read: _Read) -> Answer:
        distrusted = self._let_go_of_distrusted()
        pool = self._pool = self._pool or _Pool(self._timeout_seconds, self._access.tls)
        pool.in_use += 1
        try:
            if distrusted is not None:
                await distrusted.session.close()
            answer = await self._exchange(pool.session, path, body, most_bytes, read)
            if answer.failure and self._pool is pool:
                self._pool = None
            return answer
        finally:
            pool.in_use -= 1
            if pool is not self._pool and not pool.in_use:
                await pool.session.close()

    def _let_go_of_distrusted(self) -> _Pool | None:
        """Other CAs are trusted since a reload: nothing more over the old connections. The pool, if nobody uses it."""
        pool = self._pool
        if pool is None or pool.tls is self._access.tls:
            return None
        self._pool = None
        return None if pool.in_use else pool

    async def _exchange(
        self, session: aiohttp.ClientSession, path: str, body: bytes | None, most_bytes: int, read: _Read
    ) -> Answer:
        try:
            url = URL(self._base + path, encoded=True)
            method = "GET" if body is None else "POST"
            async with session.request(
                method, url, data=body, headers=self._access.headers, allow_redirects=False, proxy=self._proxy
            ) as response:
                headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
                content = b"" if response.status == 204 else await _bounded(response, most_bytes)
                return read(response.status, headers, self._access.masked(content))
        except aiohttp.ClientConnectorCertificateError as error:
            return _failed("unreachable", distrust(error.certificate_error, error.host))
        except aiohttp.ClientConnectorSSLError as error:
            return _failed("unreachable", no_tls(error.os_error))
        except aiohttp.ClientHttpProxyError as error:
            return _failed(
                "unreachable", f"the proxy {self._proxy} does not let it pass: {error.status} {error.message}"
            )
        except aiohttp.ClientConnectorError as error:
            return _failed("unreachable", f"cannot connect to {error.host}:{error.port}: {_cause(error.os_error)}")
        except aiohttp.ConnectionTimeoutError:
            return _failed("unreachable", f"no connection within {min(CONNECT_SECONDS, self._timeout_seconds):g} s")
        except TimeoutError:
            return _failed("timeout", f"no answer within {self._timeout_seconds:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _failed("unreachable", str(error) or type(error).__name__)


def _cause(error: OSError) -> str:
    """In the system's words; asyncio has others for an address that refuses, and none of them for people."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return error.strerror or str(error)


async def _bounded(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """What there is up to the bound; a longer answer costs its connection, not our memory."""
    read = bytearray()
    async for chunk in response.content.iter_any():
        read += chunk
        if len(read) > most_bytes:
            response.close()
            break
    return bytes(read[:most_bytes])


def _failed(failure: Failure, detail: str) -> Answer:
    return Answer(failure=failure, detail=printable(detail))
