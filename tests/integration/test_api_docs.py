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
from tests.support.http_server import serving_app, wire

# A request to elsewhere would fail at once instead of leaving the machine. The gateway has a name here:
# Swagger UI spares its validator the addresses of one's own machine.
NAMES = "--host-resolver-rules=MAP reelway.example 127.0.0.1, MAP * ~NOTFOUND"


@pytest.fixture(scope="module")
async def base() -> AsyncIterator[str]:
    app = web.Application()
    operations = [operation for dialect in DIALECTS for operation in dialect]
    register(app.router, operations)
    register(app.router, api_docs.routes(operations))
    async with serving_app(app) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def named(base: str) -> str:
    return base.replace("127.0.0.1", "reelway.example")


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium(NAMES) as opened:
        yield opened


# With its slash, where a relative address would be looked for below the page.
@pytest.mark.parametrize(
    ("page_path", "operation"),
    [("/docs/", "#swagger-ui .opblock-summary"), ("/redoc/", "#redoc h2")],
)
async def test_the_page_renders_and_asks_nobody_else(
    named: str, browser: Browser, page_path: str, operation: str
) -> None:
    page = await browser.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"{named}{page_path}")
    await page.locator(operation).filter(has_text="Upload a video").first.wait_for(timeout=60_000)
    await page.wait_for_load_state("networkidle")
    text = await page.locator("body").inner_text()
    for summary in ("Upload a video", "Stream a video", "Download a video"):
        assert summary in text
    assert f"{named}/openapi.json" in requests
    assert [url for url in requests if not url.startswith((f"{named}/", "data:", "blob:"))] == []
    # A request that the page's policy stopped would be a complaint.
    assert complaints == []
    await page.close()


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_page_is_the_same_without_its_slash(base: str, path: str) -> None:
    async with wire(int(base.rpartition(":")[2])) as connection:
        pages = [await connection.ask("GET", path + slash) for slash in ("", "/")]
    assert [page.status for page in pages] == [200, 200]
    assert pages[0].body == pages[1].body
    assert pages[0].headers["content-security-policy"] == pages[1].headers["content-security-policy"]


async def test_the_policy_stops_requests_to_elsewhere(named: str, browser: Browser) -> None:
    page = await browser.new_page()
    # The policy is there as soon as the page is.
    await page.goto(f"{named}/docs", wait_until="commit")
    refused = await page.evaluate(
        "fetch('http://127.0.0.1:1/x').then(() => 'sent', () => 'refused').then(async first => "
        "[first, await new Promise(done => { const image = new Image(); image.onload = () => done('loaded');"
        " image.onerror = () => done('refused'); image.src = 'http://127.0.0.1:1/x.png'; })])"
    )
    violations = await page.evaluate(
        # What is told of the one before may come late.
        "new Promise(done => { addEventListener('securitypolicyviolation',"
        " e => e.blockedURI.endsWith('x.png') || done(e.blockedURI));"
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


@pytest.mark.parametrize(
    ("headers", "status", "length"),
    [
        # RFC 9110, 14.2: a unit that is not known, and what is no range, are ignored.
        (["Range: items=0-1"], 200, None),
        (["Range: bytes=x"], 200, None),
        (["Range: bytes=0-1"], 206, 2),
        (["Range: bytes=0-1", "Accept-Encoding: gzip"], 206, 2),
        (["Range: bytes=0-1", 'If-Range: "another"'], 200, None),
        (["Range: bytes=99999999-"], 416, None),
        (['If-Match: "another"'], 412, None),
        (["If-None-Match: *"], 304, 0),
    ],
)
@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/static/swagger-ui-dist-5.35.0/swagger-ui.css", "/static/docs.js", "/openapi.json"]
)
async def test_pages_and_files_keep_the_rules_that_videos_keep(
    base: str, path: str, headers: list[str], status: int, length: int | None
) -> None:
    async with wire(int(base.rpartition(":")[2])) as connection:
        whole = await connection.ask("GET", path)
        answer = await connection.ask("GET", path, *headers)
        head = await connection.ask("HEAD", path)
    assert answer.status == status
    if status >= 400:
        assert json.loads(answer.body)["detail"]
    elif status == 200:
        assert answer.body == whole.body
    else:
        assert answer.body == whole.body[:length]
        assert answer.headers["etag"] == whole.headers["etag"]
    assert {name: value for name, value in head.headers.items() if name != "date"} == {
        name: value for name, value in whole.headers.items() if name != "date"
    }


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ([], None),
        (["gzip;q=0"], None),
        (["gzip; Q=0.000, br"], None),
        (["br;q=1, GZIP;q=0.5"], "gzip"),
        (["br", "gzip"], "gzip"),
    ],
)
@pytest.mark.parametrize("path", ["/openapi.json", "/static/swagger-ui-dist-5.35.0/swagger-ui.css"])
async def test_what_is_compressed_for_whom_it_may_be(
    base: str, path: str, accepted: list[str], coding: str | None
) -> None:
    asked = [f"Accept-Encoding: {each}" for each in accepted]
    async with wire(int(base.rpartition(":")[2])) as connection:
        answer = await connection.ask("GET", path, *asked)
        again = await connection.ask("GET", path, *asked, f"If-None-Match: {answer.headers['etag']}")
        plain = await connection.ask("GET", path, f"If-None-Match: {answer.headers['etag']}")
    assert answer.headers.get("content-encoding") == coding
    assert again.status == 304
    # Another encoding is another representation, and a cache has to know that there may be one.
    assert plain.status == (200 if coding else 304)
    assert {each.headers["vary"] for each in (answer, again, plain)} == {"Accept-Encoding"}


async def test_the_document(base: str) -> None:
    async with aiohttp.ClientSession() as client, client.get(f"{base}/openapi.json") as answer:
        assert answer.content_type == "application/json"
        document = json.loads(await answer.text())
        assert document["openapi"] == "3.1.0"
        assert {"/videos", "/videos/{video_id}/stream", "/videos/{video_id}/download"} <= document["paths"].keys()
        etag = answer.headers["ETag"]
        for told in (etag, f'"x", {etag}', f"W/{etag}"):
            async with client.get(f"{base}/openapi.json/", headers={"If-None-Match": told}) as again:
                assert (again.status, again.headers["ETag"], again.headers["Vary"]) == (304, etag, "Accept-Encoding")
