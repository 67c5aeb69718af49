"""The hub's reading API as the operator's commands use it: the standard library's HTTP client, and typed answers."""

import http.client
import ssl
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

T = TypeVar("T")

_PATH = "/api/v1/telemetry/backup"
_MAX_ANSWER_BYTES = 64 << 20
_PAGE = 500


class HubUnreachable(Exception):
    """No (usable) answer. Its text says where was asked and why it failed."""


class ShownDisk(Struct, frozen=True, kw_only=True):
    disk_index: int
    status: str
    bytes_transferred: int
    total_bytes: int
    progress_percent: float
    completed_at: str | None = None


class ShownJob(Struct, frozen=True, kw_only=True):
    """A job as the hub shows it. Times are RFC 3339, UTC. The list leaves `disks` out."""

    job_id: str
    vm_name: str
    backup_type: str
    status: str
    current_phase: str
    bytes_transferred: int
    total_bytes: int
    transfer_speed_bps: int
    eta_seconds: int
    progress_percent: float
    error_message: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    last_telemetry_at: str | None = None
    idle_seconds: float | None = None
    seconds_since_heard: float | None = None
    silence_seconds: float | None = None
    never_heard: bool = False
    silent: bool = False
    idle: bool = False
    stalled: bool = False
    disks: tuple[ShownDisk, ...] = ()


class HubHealth(Struct, frozen=True, kw_only=True):
    """How the hub is. `jobs` counts the pending and the running ones."""

    status: str
    database: str
    jobs: dict[str, int]
    silent: int = 0


class _Page(Struct, frozen=True, kw_only=True):
    jobs: tuple[msgspec.Raw, ...]
    next_cursor: str | None = None


class _Problem(Struct, frozen=True):
    detail: str = ""


class HubClient:
    """`address` is `host:port`, as the hub's own settings have it. With `tls` the hub is asked over TLS."""

    def __init__(
        self,
        address: str,
        timeout_seconds: float = 10.0,
        *,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._tls = tls
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    def health(self) -> HubHealth:
        """Raises HubUnreachable."""
        status, body = self._get("/api/v1/health")
        return decoded(self._good(200 if status == 503 else status, body), HubHealth)

    def job(self, job_id: str) -> bytes | None:
        """The job's JSON; None if the hub has no such job. Raises HubUnreachable."""
        status, body = self._get(f"{_PATH}/{quote(job_id, safe='')}")
        return None if status == 404 else self._good(status, body)

    def jobs(self, statuses: list[str], limit: int, vm: str = "") -> list[bytes]:
        """The JSON of up to `limit` jobs, newest first, from as many pages as it takes; `vm`: with this in its name.

        Raises HubUnreachable.
        """
        found: list[bytes] = []
        cursor: str | None = None
        while len(found) < limit:
            query = {"limit": str(min(_PAGE, limit - len(found)))}
            query |= {"status": ",".join(statuses)} if statuses else {}
            query |= {"vm": vm} if vm else {}
            query |= {"cursor": cursor} if cursor else {}
            page = decoded(self._good(*self._get(f"{_PATH}?{urlencode(query)}")), _Page)
            found += [bytes(job) for job in page.jobs]
            cursor = page.next_cursor
            if cursor is None or not page.jobs:
                break
        return found[:limit]

    def _get(self, target: str) -> tuple[int, bytes]:
        connection = self._connection()
        try:
            connection.request("GET", target, headers=self._headers)
            answer = connection.getresponse()
            return answer.status, answer.read(_MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise HubUnreachable(f"cannot reach the hub at {self._address}: {self._reason(error)}") from error
        finally:
            connection.close()

    def _reason(self, error: Exception) -> str:
        """With what an operator should look at."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {error.verify_message}; see shactl --certificate"
        if isinstance(error, ssl.SSLError):
            words = (error.reason or "the handshake failed").lower().replace("_", " ")
            return f"no TLS with it: {words}; does it run with tls.certificate?"
        if self._tls is None and isinstance(error, http.client.RemoteDisconnected | ConnectionResetError):
            return f"{error}; does the hub speak TLS? Then see shactl --certificate"
        return f"{error or type(error).__name__}; is sha-daemon running?"

    def _connection(self) -> http.client.HTTPConnection:
        host, _, port = self._address.rpartition(":")
        try:
            place, number = host.strip("[]"), int(port)
            if self._tls is None:
                return http.client.HTTPConnection(place, number, timeout=self._timeout_seconds)
            return http.client.HTTPSConnection(place, number, timeout=self._timeout_seconds, context=self._tls)
        except (ValueError, http.client.InvalidURL):
            raise HubUnreachable(f"cannot use {self._address} as the hub's address: host:port is needed") from None

    def _good(self, status: int, body: bytes) -> bytes:
        if status == 200:
            return body
        try:
            detail = msgspec.json.decode(body, type=_Problem).detail
        except msgspec.MsgspecError:
            detail = "no reason was given"
        hint = "; see shactl --token-file" if status in (401, 403) else ""
        raise HubUnreachable(f"cannot read from the hub at {self._address}: it answered {status}: {detail}{hint}")


def decoded(body: bytes, kind: type[T]) -> T:
    """Raises HubUnreachable if what came is not that: then something else answers at the hub's address."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise HubUnreachable(f"cannot understand the hub's answer: {error}") from None
