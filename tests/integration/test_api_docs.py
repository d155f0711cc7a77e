"""The two documentation pages in a browser that can reach nothing but the gateway."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Browser

from gateway import api_docs
from gateway.routes import DIALECTS
from gateway.routing import register
from tests.support.browser import chromium
from tests.support.http_server import serving_app

# A request to elsewhere would fail at once instead of leaving the machine. The gateway has a name here:
# Swagger UI spares its validator the addresses of one's own machine.
NAMES = "--host-resolver-rules=MAP reelway.example 127.0.0.1, MAP * ~NOTFOUND"


@pytest.fixture
async def base() -> AsyncIterator[str]:
    app = web.Application()
    operations = [operation for dialect in DIALECTS for operation in dialect]
    register(app.router, operations)
    api_docs.add_to(app, operations)
    async with serving_app(app) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def named(base: str) -> str:
    return base.replace("127.0.0.1", "reelway.example")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium(NAMES) as opened:
        yield opened


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("page_path", "operation"),
    [("/docs", "#swagger-ui .opblock-summary"), ("/redoc", "#redoc h2")],
)
async def test_the_page_renders_and_asks_nobody_else(
    named: str, browser: Browser, page_path: str, slash: str, operation: str
) -> None:
    page = await browser.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"{named}{page_path}{slash}")
    await page.locator(operation).filter(has_text="Upload a video").first.wait_for(timeout=20_000)
    await page.wait_for_load_state("networkidle")
    text = await page.locator("body").inner_text()
    for summary in ("Upload a video", "Stream a video", "Download a video"):
        assert summary in text
    assert f"{named}/openapi.json" in requests
    assert [url for url in requests if not url.startswith((f"{named}/", "data:", "blob:"))] == []
    # A request that the page's policy stopped would be a complaint.
    assert complaints == []
    await page.close()


async def test_the_policy_stops_requests_to_elsewhere(named: str, browser: Browser) -> None:
    page = await browser.new_page()
    await page.goto(f"{named}/docs")
    refused = await page.evaluate(
        "fetch('http://127.0.0.1:1/x').then(() => 'sent', () => 'refused').then(async first => "
        "[first, await new Promise(done => { const image = new Image(); image.onload = () => done('loaded');"
        " image.onerror = () => done('refused'); image.src = 'http://127.0.0.1:1/x.png'; })])"
    )
    violations = await page.evaluate(
        "new Promise(done => { addEventListener('securitypolicyviolation', e => done(e.blockedURI));"
        " new Image().src = 'http://127.0.0.1:1/y.png'; })"
    )
    assert refused == ["refused", "refused"]
    assert violations == "http://127.0.0.1:1/y.png"
    await page.close()


async def test_files_are_kept_forever_and_sent_compressed(base: str) -> None:
    async with aiohttp.ClientSession(auto_decompress=False) as client:
        for path in ("swagger-ui-dist-5.35.0/swagger-ui-bundle.js", "redoc-2.5.4/redoc.standalone.js"):
            original = (Path(api_docs.__file__).parent / "static" / path).read_bytes()
            async with client.get(f"{base}/static/{path}", headers={"Accept-Encoding": "gzip"}) as answer:
                assert answer.headers["Content-Encoding"] == "gzip"
                assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
                assert gzip.decompress(await answer.read()) == original
            async with client.get(f"{base}/static/{path}", headers={"Accept-Encoding": "identity"}) as answer:
                assert await answer.read() == original
        for path in ("../api_docs.py", "%2e%2e/api_docs.py", "refetch.sh", "docs.html", "nothing.js", "redoc-2.5.4"):
            async with client.get(f"{base}/static/{path}") as answer:
                assert answer.status == 404


async def test_the_document(base: str) -> None:
    async with aiohttp.ClientSession() as client, client.get(f"{base}/openapi.json") as answer:
        assert answer.content_type == "application/json"
        document = json.loads(await answer.text())
        assert document["openapi"] == "3.1.0"
        assert {"/videos", "/videos/{video_id}/stream", "/videos/{video_id}/download"} <= document["paths"].keys()
        etag = answer.headers["ETag"]
        async with client.get(f"{base}/openapi.json/", headers={"If-None-Match": etag}) as again:
            assert again.status == 304
