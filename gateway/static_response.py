"""Answers GET and HEAD of what comes with the gateway, compressed for whoever takes it so."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from aiohttp import hdrs, web

from gateway.header_parameters import parse_parameters
from gateway.range_response import Batch, Representation, respond

#: Suffix to type, of all that can be served.
TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".png": "image/png",
}
# A client who stops reading holds this much.
_PIECE = 2**18


class Content(NamedTuple):
    """Bytes, their ETag and their time of change."""

    data: memoryview
    etag: str
    modify_time: datetime

    @classmethod
    def of(cls, data: bytes, modify_time: datetime) -> Content:
        """With an ETag made of the bytes."""
        return cls(memoryview(data), f'"{hashlib.sha256(data).hexdigest()[:32]}"', modify_time)


@functools.cache
def _load(path: Path) -> Content | None:
    """A file, if there is one; kept, for there are few and they are small."""
    if not path.exists():
        return None
    return Content.of(path.read_bytes(), datetime.fromtimestamp(path.stat().st_mtime, UTC))


def _takes_gzip(request: web.Request) -> bool:
    for member in ",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ())).split(","):
        coding, parameters = parse_parameters(member)
        if coding == "gzip":
            # A weight of 0, in up to three decimals, is a refusal (RFC 9110, section 12.4.2).
            return parameters.get("q", "1").strip("0.") != ""
    return False


async def serve_file(
    request: web.Request, path: Path, cache_control: str, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """The file, or the one beside it with `.gz` behind its name; see `serve`."""
    plain = _load(path)
    if plain is None:
        raise web.HTTPNotFound
    packed = _load(path.with_name(f"{path.name}.gz"))
    return await serve(request, TYPES[path.suffix], plain, packed, cache_control=cache_control, headers=headers)


async def serve(
    request: web.Request,
    content_type: str,
    plain: Content,
    packed: Content | None,
    *,
    cache_control: str,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """The content: conditionals, ranges, HEAD; `packed` to whoever takes gzip. `headers` are of every answer."""
    headers, coding, content = dict(headers or {}), "", plain
    if packed is not None:
        headers["Vary"] = hdrs.ACCEPT_ENCODING
        # Ranges are of the uncompressed bytes: several of them in one answer are no gzip.
        if _takes_gzip(request) and hdrs.RANGE not in request.headers:
            content, coding = packed, "gzip"
    data = content.data

    async def read(offset: int, length: int) -> AsyncGenerator[Batch, None]:
        for start in range(offset, offset + length, _PIECE):
            yield (data[start : min(start + _PIECE, offset + length)],)

    representation = Representation(
        size=len(data),
        etag=content.etag,
        modify_time=content.modify_time,
        content_type=content_type,
        disposition="inline",
        cache_control=cache_control,
        content_encoding=coding,
        headers=headers,
    )
    return await respond(request, representation, read)
