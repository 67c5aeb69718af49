"""One message to the hub, one answer back. Nothing here decides what an answer means.

A failure is a value (`Answer.failure`), not an exception: it is as ordinary as any other answer.
"""

import ssl
from typing import Protocol
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from sbc_daemon.answers import Answer, Failure
from sbc_daemon.hub_access import HubAccess
from sbc_daemon.hub_trust import distrust, no_tls
from telemetry_common import __version__
from telemetry_common.text import printable

MAX_ANSWER_BYTES = 64 << 10
CONNECT_SECONDS = 3.0
"""A hub that is there accepts at once; one that is not must not hold up the search for it."""
_HEADERS = {"Content-Type": "application/json", "User-Agent": f"sbc-daemon/{__version__}"}
_KEPT_HEADERS = ("telemetry-result", "telemetry-seq", "telemetry-status", "retry-after", "location")


class HubLink(Protocol):
    async def post(self, job_id: str, body: bytes) -> Answer:
        """Hand one message to the hub. Never raises for what the network or the hub does."""

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
    """POST {url}/api/v1/telemetry/backup/{job_id}. No proxies, no redirects, only trusted hubs, bounded answers.

    After a failure the next request connects anew: an idle connection to a hub that was replaced behind an address
    would swallow the next message until its timeout.
    """

    def __init__(self, url: str, timeout_seconds: float, access: HubAccess) -> None:
        self._base = url.rstrip("/") + "/api/v1/telemetry/backup/"
        self._timeout_seconds = timeout_seconds
        self._access = access
        self._pool: _Pool | None = None

    async def post(self, job_id: str, body: bytes) -> Answer:
        distrusted = self._let_go_of_distrusted()
        pool = self._pool = self._pool or _Pool(self._timeout_seconds, self._access.tls)
        pool.in_use += 1
        try:
            if distrusted is not None:
                await distrusted.session.close()
            answer = await self._post(pool.session, job_id, body)
            if answer.failure and self._pool is pool:
                self._pool = None
            return answer
        finally:
            pool.in_use -= 1
            if pool is not self._pool and not pool.in_use:
                await pool.session.close()

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.session.close()

    def _let_go_of_distrusted(self) -> _Pool | None:
        """Other CAs are trusted since a reload: nothing more over the old connections. The pool, if nobody uses it."""
        pool = self._pool
        if pool is None or pool.tls is self._access.tls:
            return None
        self._pool = None
        return None if pool.in_use else pool

    async def _post(self, session: aiohttp.ClientSession, job_id: str, body: bytes) -> Answer:
        try:
            url = URL(self._base + quote(job_id, safe=""), encoded=True)
            async with session.post(url, data=body, headers=self._access.headers, allow_redirects=False) as response:
                headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
                detail = self._access.masked(await _detail(response))
                return Answer(status=response.status, headers=headers, detail=printable(detail))
        except aiohttp.ClientConnectorCertificateError as error:
            return _failed("unreachable", distrust(error.certificate_error, error.host))
        except aiohttp.ClientConnectorSSLError as error:
            return _failed("unreachable", no_tls(error.os_error))
        except aiohttp.ConnectionTimeoutError:
            return _failed("unreachable", f"no connection within {min(CONNECT_SECONDS, self._timeout_seconds):g} s")
        except TimeoutError:
            return _failed("timeout", f"no answer within {self._timeout_seconds:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _failed("unreachable", str(error) or type(error).__name__)


async def _detail(response: aiohttp.ClientResponse) -> str:
    """The hub's reason, from problem+json where it is that. At most MAX_ANSWER_BYTES are read."""
    if response.status == 204:
        return ""
    raw = await _bounded(response)
    try:
        problem = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw.decode("utf-8", "replace")
    detail = problem.get("detail") or problem.get("title") if isinstance(problem, dict) else problem
    return str(detail or "")


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """What there is up to the bound; a longer answer costs its connection, not our memory."""
    read = bytearray()
    async for chunk in response.content.iter_any():
        read += chunk
        if len(read) > MAX_ANSWER_BYTES:
            response.close()
            break
    return bytes(read[:MAX_ANSWER_BYTES])


def _failed(failure: Failure, detail: str) -> Answer:
    return Answer(failure=failure, detail=printable(detail))
