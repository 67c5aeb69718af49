"""The one place where errors become HTTP answers, and replies become the HTTP library's responses."""

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from sha_daemon.replies import Problem, Reply
from telemetry_common.contract import MAX_BODY_BYTES

log = logging.getLogger(__name__)

PREFIX = "/api/v1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error leaves as problem+json; what nobody foresaw is logged with its traceback and told without it."""
    try:
        return await handler(request)
    except Problem as problem:
        return response(problem.reply())
    except web.HTTPException as error:
        allow = error.headers.get("Allow")
        return response(Problem(error.status, _detail(error), {"Allow": allow} if allow else {}).reply())
    except ConnectionError:
        log.debug("sender hung up before its answer")
        return web.Response(status=400)
    except Exception:
        log.exception("unforeseen error while answering a request")
        return response(Problem(500, "the hub failed; its journal has the reason; try again").reply())


def response(reply: Reply) -> web.Response:
    if not reply.body:
        return web.Response(status=reply.status, headers=reply.headers)
    return web.Response(status=reply.status, headers=reply.headers, body=reply.body, content_type=reply.content_type)


def _detail(error: web.HTTPException) -> str:
    if error.status == 413:
        return f"the body is over {MAX_BODY_BYTES} bytes"
    if error.status == 404:
        return "no such resource"
    if error.status == 405:
        return "this resource does not take that method; the Allow header names those it takes"
    return error.reason
