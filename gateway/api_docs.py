"""`/openapi.json`, and two pages that show it: `/docs` and `/redoc`. No page asks another host for anything."""

from __future__ import annotations

import gzip
import importlib.metadata
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from gateway import openapi
from gateway.broken_off import WRITE_TIMEOUT_S
from gateway.routing import Answer, Operation, Routes
from gateway.static_response import TYPES, Content, serve, serve_file

_STATIC = Path(__file__).parent / "static"
# The path of a vendored file has its version in it.
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"

# Both pages style elements from scripts; Redoc searches in a worker that it makes from a blob.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_PAGE_HEADERS = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}

DESCRIPTION = f"""\
Five REST dialects over one catalogue: what goes in through one is there in every other.

- **Paths** work with and without a trailing slash; those of RecordPlus also below `/record/videos`.
- **Users**: `Authorization: Bearer …`. A token that is not valid is refused (401), never taken for none.
- **Slow readers**: an answer of which the client takes nothing for {WRITE_TIMEOUT_S:g} s is cut off. Ask for the rest
  with Range.
- **Retries**: a 429 has done nothing: send the request again after `Retry-After` seconds. After a lost connection, a
  408 or a 5xx nobody knows what was done. Safe to send again are GET, HEAD, PUT, DELETE (404: it was done), a task or a
  chunk with its `Idempotency-Key`, a chunk with its `Upload-Offset` (409: it had arrived), and the end of a recording.
  Any other POST or PATCH may then be done twice.
"""


def routes(operations: Iterable[Operation]) -> Routes:
    """The document of `operations`, the pages and their files; none of them is in the document itself."""
    found = Routes("documentation")
    document = openapi.build("Reelway", importlib.metadata.version("reelway"), DESCRIPTION, operations)
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    now = datetime.now(UTC)
    plain, packed = Content.of(text, now), Content.of(gzip.compress(text, mtime=0), now)
    served = TYPES.keys() - {".html"}
    files = {file.relative_to(_STATIC).as_posix() for file in _STATIC.rglob("*") if file.suffix in served}
    ok = {200: Answer("As asked")}

    @found.get("/openapi.json", summary="The document", answers=ok, head=True, open=True, published=False)
    async def openapi_json(request: web.Request) -> web.StreamResponse:
        return await serve(request, "application/json; charset=utf-8", plain, packed, cache_control=_ASK_AGAIN)

    @found.get("/docs", summary="Swagger UI", answers=ok, head=True, open=True, published=False)
    async def docs(request: web.Request) -> web.StreamResponse:
        return await serve_file(request, _STATIC / "docs.html", _ASK_AGAIN, _PAGE_HEADERS)

    @found.get("/redoc", summary="Redoc", answers=ok, head=True, open=True, published=False)
    async def redoc(request: web.Request) -> web.StreamResponse:
        return await serve_file(request, _STATIC / "redoc.html", _ASK_AGAIN, _PAGE_HEADERS)

    @found.get("/static/{path:.+}", summary="Their files", answers=ok, head=True, open=True, published=False)
    async def static(request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"].rstrip("/")
        if path not in files:
            raise web.HTTPNotFound
        return await serve_file(request, _STATIC / path, _FOREVER if "/" in path else _ASK_AGAIN)

    return found
