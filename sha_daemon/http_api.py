"""The HTTP surface on aiohttp: routes, and the one place where errors become answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from sha_daemon.reading import Reader
from sha_daemon.receiving import Receiver
from sha_daemon.replies import Problem, Reply
from telemetry_common.contract import MAX_BODY_BYTES
from telemetry_common.text import printable

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BODY_SECONDS = 30.0
"""For the whole of a body: a sender that takes longer is cut off, it keeps a connection from others."""
PREFIX = "/api/v1"
RECEIVER = web.AppKey("receiver", Receiver)
READER = web.AppKey("reader", Reader)


def application(receiver: Receiver, reader: Reader) -> web.Application:
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_problems])
    app[RECEIVER] = receiver
    app[READER] = reader
    app.add_routes(
        [
            web.get(f"{PREFIX}/health", _health),
            web.get(f"{PREFIX}/telemetry/{{job_type}}", _jobs),
            web.get(f"{PREFIX}/telemetry/{{job_type}}/{{job_id}}", _job),
            web.post(f"{PREFIX}/telemetry/{{job_type}}/{{job_id}}", _post),
            web.post(f"{PREFIX}/telemetry/{{job_type}}", _post_without_id),
            web.post(f"{PREFIX}/telemetry/{{job_type}}/", _post_without_id),
        ]
    )
    return app


async def _post(request: web.Request) -> web.StreamResponse:
    job_type, job_id = request.match_info["job_type"], request.match_info["job_id"]
    body = await _body(request)
    return _response(await request.app[RECEIVER].receive(job_type, job_id, request.content_type, body))


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise Problem(408, f"the body did not arrive within {BODY_SECONDS:.0f} s") from None
    except (web.RequestPayloadError, HttpProcessingError):
        encoding = printable(request.headers.get("Content-Encoding", "identity"))
        raise Problem(400, f"the body cannot be read with its Content-Encoding ({encoding})") from None


async def _post_without_id(request: web.Request) -> web.StreamResponse:
    raise Problem(400, "the path has no job_id; post to /api/v1/telemetry/{job_type}/{job_id}")


async def _job(request: web.Request) -> web.StreamResponse:
    return _response(await request.app[READER].job(request.match_info["job_type"], request.match_info["job_id"]))


async def _jobs(request: web.Request) -> web.StreamResponse:
    return _response(await request.app[READER].jobs(request.match_info["job_type"], request.query))


async def _health(request: web.Request) -> web.StreamResponse:
    return _response(request.app[READER].health())


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error leaves as problem+json; what nobody foresaw is logged with its traceback and told without it."""
    try:
        return await handler(request)
    except Problem as problem:
        return _response(problem.reply())
    except web.HTTPException as error:
        allow = error.headers.get("Allow")
        return _response(Problem(error.status, _detail(error), {"Allow": allow} if allow else {}).reply())
    except ConnectionError:
        log.debug("sender hung up before its answer")
        return web.Response(status=400)
    except Exception:
        log.exception("unforeseen error while answering a request")
        return _response(Problem(500, "the hub failed; its journal has the reason; try again").reply())


def _detail(error: web.HTTPException) -> str:
    if error.status == 413:
        return f"the body is over {MAX_BODY_BYTES} bytes"
    if error.status == 404:
        return "no such resource"
    if error.status == 405:
        return "this resource does not take that method; the Allow header names those it takes"
    return error.reason


def _response(reply: Reply) -> web.Response:
    if not reply.body:
        return web.Response(status=reply.status, headers=reply.headers)
    return web.Response(status=reply.status, headers=reply.headers, body=reply.body, content_type=reply.content_type)
