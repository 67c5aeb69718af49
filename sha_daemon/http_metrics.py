"""The route where Prometheus asks."""

from collections.abc import Callable, Iterable
from functools import cache

from aiohttp import web

from sha_daemon.app import Hub

TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""The text format, which every Prometheus reads."""


def routes(hub: Hub) -> Iterable[web.RouteDef]:
    @cache
    def scraper() -> Callable[[], bytes]:
        # Here, not above: a start does not wait for a library that only a scrape needs.
        from sha_daemon import metrics

        return metrics.scraper(hub)

    async def scrape(request: web.Request) -> web.StreamResponse:
        return web.Response(body=scraper()(), headers={"Content-Type": TEXT, "Cache-Control": "no-store"})

    return [web.get("/metrics", scrape)]
