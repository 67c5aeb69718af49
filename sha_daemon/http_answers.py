"""The one place where errors become HTTP answers, and replies become the HTTP library's responses."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import HttpVersion11, web

from sha_daemon.http_acknowledgement import Acknowledgement
from sha_daemon.http_large_answers import AnswerRoom, is_large, written
from sha_daemon.replies import Problem, Reply
from telemetry_common.contract import MAX_BODY_BYTES
from telemetry_common.text import printable

log = logging.getLogger(__name__)

PREFIX = "/api/v1"
SERVER = "sha-daemon"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Rejected = Counter[tuple[str, str]]
REJECTED: web.AppKey[Rejected] = web.AppKey("rejected", Counter)
"""What was refused, by method and reason."""


def answering(routes: Iterable[web.RouteDef], room: AnswerRoom) -> Iterable[web.RouteDef]:
    """These routes, their errors turned into answers, and their large answers written within `room`.

    Here and not in a middleware, which costs each request more.
    """
    return [
        web.route(route.method, route.path, _answering(route.handler, room), expect_handler=_expected, **route.kwargs)
        for route in routes
    ]


def _answering(handler: Handler, room: AnswerRoom) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        """Every error leaves as problem+json; what nobody foresaw is logged with its traceback and told without it."""
        try:
            answered = await handler(request)
            return await written(answered, request, room) if is_large(answered, request) else answered
        except Problem as problem:
            return _told(request, problem)
        except web.HTTPException as error:
            return _told(request, Problem(error.status, _detail(error)))
        except ConnectionError:
            log.debug("sender hung up before its answer")
            return response(Problem(400, "the sender hung up").reply())
        except Exception:
            log.exception("unforeseen error while answering a request")
            return _told(request, Problem(500, "the hub failed; its journal has the reason; try again"))

    return answer


def _told(request: web.Request, problem: Problem) -> web.StreamResponse:
    return told(request, problem, request.app[REJECTED])


def told(request: web.BaseRequest, problem: Problem, rejected: Rejected) -> web.StreamResponse:
    """The answer, counted. A method of somebody's own invention gets no line of its own in the figures."""
    method = request.method if request.method in ("GET", "POST") else "other"
    rejected[method, problem.reason] += 1
    return response(problem.reply())


async def _expected(request: web.Request) -> web.StreamResponse | None:
    """A sender asks before it sends its body whether it may; it hears what is wrong with it in the answer."""
    said = request.headers.get("Expect", "")
    if request.version < HttpVersion11:
        return None
    if said.lower() != "100-continue":
        return _told(request, Problem(417, f"Expect must be 100-continue, or absent, not '{printable(said)}'"))
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # of the answer nothing is sent yet
    return None


async def nowhere(request: web.Request) -> web.StreamResponse:
    """For whatever no other route takes: the path is unknown, or known with other methods."""
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        allowed |= (await resource.resolve(request))[1]
    allowed.discard("*")
    if not allowed:
        raise Problem(404, f"no such resource; {PREFIX}/docs lists those there are")
    detail = "this resource does not take that method; the Allow header names those it takes"
    raise Problem(405, detail, {"Allow": ", ".join(sorted(allowed))})


def response(reply: Reply) -> web.StreamResponse:
    if reply.status == 204:
        return Acknowledgement(reply.headers)
    answer = web.Response(status=reply.status, headers=reply.headers, body=reply.body, content_type=reply.content_type)
    if reply.last:
        answer.force_close()
    return answer


async def nameless(request: web.Request, answer: web.StreamResponse) -> None:
    """The library would tell everybody its own version and Python's."""
    answer.headers["Server"] = SERVER


def _detail(error: web.HTTPException) -> str:
    if error.status == 413:
        return f"the body is over {MAX_BODY_BYTES} bytes"
    return error.reason
