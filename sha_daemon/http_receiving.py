"""The routes where senders report."""

import asyncio
from collections.abc import Iterable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from sha_daemon.http_answers import PREFIX, response
from sha_daemon.receiving import Receiver
from sha_daemon.receiving_batch import BatchReceiver
from sha_daemon.replies import JSON, Problem

BODY_SECONDS = 30.0
"""For the whole of a body: a sender that takes longer is cut off, it keeps a connection from others."""


def routes(receiver: Receiver) -> Iterable[web.RouteDef]:
    batches = BatchReceiver(receiver)

    async def post(request: web.Request) -> web.StreamResponse:
        job_type, job_id = request.match_info["job_type"], request.match_info["job_id"]
        body, encoding = await _body(request), request.headers.get("Content-Encoding", "")
        return response(await receiver.receive(job_type, job_id, _content_type(request), body, encoding))

    async def post_batch(request: web.Request) -> web.StreamResponse:
        body, encoding = await _body(request), request.headers.get("Content-Encoding", "")
        return response(await batches.receive(_content_type(request), body, encoding))

    return [
        web.post(f"{PREFIX}/telemetry/batch", post_batch),
        web.post(f"{PREFIX}/telemetry/{{job_type}}/{{job_id:[^/]+}}", post),
        web.post(f"{PREFIX}/telemetry/{{job_type}}", _post_without_id),
        web.post(f"{PREFIX}/telemetry/{{job_type}}/", _post_without_id),
    ]


async def _post_without_id(request: web.Request) -> web.StreamResponse:
    raise Problem(400, "the path has no job_id; post to /api/v1/telemetry/{job_type}/{job_id}")


def _content_type(request: web.Request) -> str:
    """What nearly every sender says needs no parser."""
    said = request.headers.get("Content-Type", "")
    return said if said == JSON else request.content_type


async def _body(request: web.Request) -> bytes:
    try:
        if request.content.is_eof():
            return await request.read()  # it is all there: a timer would be made for nothing
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise Problem(408, f"the body did not arrive within {BODY_SECONDS:.0f} s") from None
    except (web.RequestPayloadError, HttpProcessingError):
        raise Problem(400, "the body does not come as its Content-Length or Transfer-Encoding says") from None
