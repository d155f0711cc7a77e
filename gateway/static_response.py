"""Answers GET and HEAD of a file that comes with the gateway, compressed where it lies here so, too."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

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
# What a client who stops reading keeps here.
_PIECE = 2**18


@functools.cache
def _load(path: Path) -> tuple[memoryview, str, datetime]:
    """Its bytes, ETag and time of change; kept, for there are few and they are small."""
    data = path.read_bytes()
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    return memoryview(data), etag, datetime.fromtimestamp(path.stat().st_mtime, UTC)


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
    """The file: conditionals, ranges, HEAD; its `.gz` to whoever takes gzip. `headers` are of every answer."""
    packed = path.with_name(f"{path.name}.gz")
    headers, coding = dict(headers or {}), ""
    content_type = TYPES[path.suffix]
    if packed.exists():
        headers["Vary"] = hdrs.ACCEPT_ENCODING
        # Ranges are of the uncompressed file: several of them in one answer are no gzip.
        if _takes_gzip(request) and hdrs.RANGE not in request.headers:
            path, coding = packed, "gzip"
    data, etag, modify_time = _load(path)

    async def read(offset: int, length: int) -> AsyncIterator[Batch]:
        for start in range(offset, offset + length, _PIECE):
            yield (data[start : min(start + _PIECE, offset + length)],)

    representation = Representation(
        size=len(data),
        etag=etag,
        modify_time=modify_time,
        content_type=content_type,
        disposition="inline",
        cache_control=cache_control,
        content_encoding=coding,
        headers=headers,
    )
    return await respond(request, representation, read)
