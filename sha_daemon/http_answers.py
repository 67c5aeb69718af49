"""The one place where errors become HTTP answers, and replies become the HTTP library's responses."""

import logging
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from sha_daemon.http_acknowledgement import Acknowledgement
from sha_daemon.replies import Problem, Reply
from telemetry_common.contract import MAX_BODY_BYTES

log = logging.getLogger(__name__)

PREFIX = "/api/v1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answering(routes: Iterable[web.RouteDef]) -> Iterable[web.RouteDef]:
    """These routes, their errors turned into answers. Here and not in a middleware, which costs each request more."""
    return [web.route(route.method, route.path, _answering(route.handler), **route.kwargs) for route in routes]


def _answering(handler: Handler) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        """Every error leaves as problem+json; what nobody foresaw is logged with its traceback and told without it."""
        try:
            return await handler(request)
        except Problem as problem:
            return response(problem.reply())
        except web.HTTPException as error:
            return response(Problem(error.status, _detail(error)).reply())
        except ConnectionError:
            log.debug("sender hung up before its answer")
            return web.Response(status=400)
        except Exception:
            log.exception("unforeseen error while answering a request")
            return response(Problem(500, "the hub failed; its journal has the reason; try again").reply())

    return answer


async def nowhere(request: web.Request) -> web.StreamResponse:
    """For whatever no other route takes: the path is unknown, or known with other methods."""
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        allowed |= (await resource.resolve(request))[1]
    allowed.discard("*")
    if not allowed:
        raise Problem(404, "no such resource")
    detail = "this resource does not take that method; the Allow header names those it takes"
    raise Problem(405, detail, {"Allow": ", ".join(sorted(allowed))})


def response(reply: Reply) -> web.StreamResponse:
    if reply.status == 204:
        return Acknowledgement(reply.headers)
    return web.Response(status=reply.status, headers=reply.headers, body=reply.body, content_type=reply.content_type)


def _detail(error: web.HTTPException) -> str:
    if error.status == 413:
        return f"the body is over {MAX_BODY_BYTES} bytes"
    return error.reason
