"""The page to browse the API: it stands alone, and a browser runs nothing that the hub did not write."""

import base64
import hashlib
import re

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from sha_daemon import http_docs


@pytest.fixture
async def page() -> tuple[str, str]:
    """The text and its Content-Security-Policy."""
    app = web.Application()
    app.add_routes(http_docs.routes())
    async with TestClient(TestServer(app)) as client, client.get("/api/v1/docs") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        return await answer.text(), answer.headers["Content-Security-Policy"]


def test_it_loads_nothing_from_anywhere_but_the_hub(page: tuple[str, str]) -> None:
    text, policy = page
    assert not re.search(r"(?i)https?://|//[a-z0-9-]+\.[a-z]|@import|url\(", text)
    assert set(re.findall(r'(?:src|href)="([^"]+)"', text)) == {"data:,", "openapi.json"}
    assert policy.startswith("default-src 'none';")
    assert "connect-src 'self'" in policy


def test_a_browser_runs_what_stands_in_it_and_nothing_else(page: tuple[str, str]) -> None:
    text, policy = page
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r'<[^>]+ (?:style|on\w+)="', text)


def test_what_the_hub_says_never_becomes_markup(page: tuple[str, str]) -> None:
    text, policy = page
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    assert "require-trusted-types-for 'script'" in policy
