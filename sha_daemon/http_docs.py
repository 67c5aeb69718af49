"""The routes where the hub describes itself: for programs, and for people to browse."""

import base64
import hashlib
import re
from collections.abc import Iterable
from functools import cache
from importlib import resources

import msgspec
from aiohttp import web

from sha_daemon.http_answers import PREFIX

_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


@cache
def _description() -> bytes:
    # Here, not above: making it takes longer than the start may.
    from sha_daemon import openapi

    return msgspec.json.encode(openapi.document())


@cache
def _page() -> tuple[str, str]:
    """The page, and the policy that lets a browser run what stands in it, and nothing else."""
    text = resources.files("sha_daemon").joinpath("docs.html").read_text("utf-8")
    hashes = {kind: _hash(content) for kind, content in _INLINE.findall(text)}
    policy = (
        f"default-src 'none'; style-src {hashes['style']}; script-src {hashes['script']}; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return text, policy


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


async def _openapi(request: web.Request) -> web.StreamResponse:
    return web.Response(body=_description(), content_type="application/json", headers={"Cache-Control": "no-cache"})


async def _docs(request: web.Request) -> web.StreamResponse:
    text, policy = _page()
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return web.Response(text=text, content_type="text/html", headers=headers)


def routes() -> Iterable[web.RouteDef]:
    return [web.get(f"{PREFIX}/openapi.json", _openapi), web.get(f"{PREFIX}/docs", _docs)]
