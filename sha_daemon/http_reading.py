"""The routes where readers ask."""

from collections.abc import Iterable

from aiohttp import web

from sha_daemon import queries
from sha_daemon.http_answers import PREFIX, response
from sha_daemon.reading import Reader


def routes(reader: Reader) -> Iterable[web.RouteDef]:
    async def job(request: web.Request) -> web.StreamResponse:
        queries.only(request.query)
        return response(await reader.job(request.match_info["job_type"], request.match_info["job_id"]))

    async def jobs(request: web.Request) -> web.StreamResponse:
        return response(await reader.jobs(request.match_info["job_type"], request.query))

    async def history(request: web.Request) -> web.StreamResponse:
        job_type, job_id = request.match_info["job_type"], request.match_info["job_id"]
        return response(await reader.history(job_type, job_id, request.query))

    async def health(request: web.Request) -> web.StreamResponse:
        return response(reader.health())

    return [
        web.get(f"{PREFIX}/health", health),
        web.get(f"{PREFIX}/telemetry/{{job_type}}", jobs),
        web.get(f"{PREFIX}/telemetry/{{job_type}}/{{job_id:[^/]+}}", job),
        web.get(f"{PREFIX}/telemetry/{{job_type}}/{{job_id:[^/]+}}/history", history),
    ]
