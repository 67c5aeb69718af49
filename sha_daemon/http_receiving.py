"""The routes where senders report."""

from collections.abc import Iterable

from aiohttp import web

from sha_daemon.http_answers import PREFIX, response
from sha_daemon.http_bodies import body_of
from sha_daemon.http_connection import Connection
from sha_daemon.receiving import Receiver
from sha_daemon.receiving_batch import BatchReceiver
from sha_daemon.replies import JSON, Problem


def routes(receiver: Receiver) -> Iterable[web.RouteDef]:
    batches = BatchReceiver(receiver)

    async def post(request: web.Request) -> web.StreamResponse:
        job_type, job_id = request.match_info["job_type"], request.match_info["job_id"]
        kind, encoding = _content_type(request), _encoding(request)
        try:
            body = await body_of(request)
        except web.HTTPRequestEntityTooLarge:
            if kind == JSON:  # a web page can send any other: it must not keep a dead job alive
                receiver.hear(job_type, job_id)
            raise
        waited = _waited(request)
        return response(await receiver.receive(job_type, job_id, kind, body, encoding, waited=waited))

    async def post_batch(request: web.Request) -> web.StreamResponse:
        body, encoding = await body_of(request), _encoding(request)
        return response(await batches.receive(_content_type(request), body, encoding, waited=_waited(request)))

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


def _waited(request: web.Request) -> float:
    return request.protocol.waited_seconds if isinstance(request.protocol, Connection) else 0.0


def _encoding(request: web.Request) -> str:
    """All that were said, in one or in several headers: the body would have to be out of each of them."""
    headers = request.headers
    return ", ".join(headers.getall("Content-Encoding")) if "Content-Encoding" in headers else ""
