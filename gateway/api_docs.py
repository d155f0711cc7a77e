"""`/openapi.json`, and two pages that show it: `/docs` and `/redoc`. No page asks another host for anything."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from gateway import openapi
from gateway.routing import Answer, Operation, Routes, register

_STATIC = Path(__file__).parent / "static"
_SERVED = (".js", ".css", ".png")
# The path of a vendored file has its version in it.
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"

# Both pages style elements from scripts; Redoc searches in a worker that it makes from a blob.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

TITLE = "Reelway"
DESCRIPTION = """\
Five REST dialects over one catalogue: what goes in through one is there in every other.

Every path is served with and without its trailing slash. Where a bearer token is sent it must be valid.
"""


def add_to(app: web.Application, operations: Sequence[Operation]) -> None:
    """Publish `operations` in `app`."""
    register(app.router, list(routes(openapi.build(TITLE, _version(), DESCRIPTION, operations))))


def routes(document: openapi.Json) -> Routes:
    """The document, the pages and their files; none of them is in the document itself."""
    found = Routes("documentation")
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    etag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
    files = {file.relative_to(_STATIC).as_posix() for file in _STATIC.rglob("*") if file.suffix in _SERVED}
    ok = {200: Answer("As asked")}

    @found.get("/openapi.json", summary="The document", answers=ok, head=True, published=False)
    async def openapi_json(request: web.Request) -> web.Response:
        headers = {"ETag": etag, "Cache-Control": _ASK_AGAIN}
        if etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        response = web.Response(text=text, content_type="application/json", headers=headers)
        response.enable_compression()
        return response

    @found.get("/docs", summary="Swagger UI", answers=ok, head=True, published=False)
    async def docs(_: web.Request) -> web.StreamResponse:
        return _page("docs.html")

    @found.get("/redoc", summary="Redoc", answers=ok, head=True, published=False)
    async def redoc(_: web.Request) -> web.StreamResponse:
        return _page("redoc.html")

    @found.get("/static/{path:.+}", summary="Their files", answers=ok, head=True, published=False)
    async def static(request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"].rstrip("/")
        if path not in files:
            raise web.HTTPNotFound
        cached = _FOREVER if "/" in path else _ASK_AGAIN
        return web.FileResponse(_STATIC / path, headers={"Cache-Control": cached, "X-Content-Type-Options": "nosniff"})

    return found


def _page(name: str) -> web.StreamResponse:
    headers = {
        "Cache-Control": _ASK_AGAIN,
        "Content-Security-Policy": _POLICY,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return web.FileResponse(_STATIC / name, headers=headers)


def _version() -> str:
    return importlib.metadata.version("reelway")
