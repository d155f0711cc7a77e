"""Answers GET and HEAD of a video's captions, in every dialect."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from aiohttp import web

from gateway.operations.transcripts import Captions
from gateway.range_response import Batch, Representation, content_disposition, respond

CAPTIONS_TYPE = "text/vtt"


async def serve_captions(request: web.Request, captions: Captions, name: str) -> web.StreamResponse:
    """The WebVTT file: conditionals, ranges, HEAD; `name` without its extension."""

    async def read(offset: int, length: int) -> AsyncGenerator[Batch, None]:
        yield (captions.data[offset : offset + length],)

    representation = Representation(
        size=len(captions.data),
        etag=captions.etag,
        modify_time=captions.modify_time,
        content_type=f"{CAPTIONS_TYPE}; charset=utf-8",
        disposition=content_disposition("inline", f"{name}.vtt"),
    )
    return await respond(request, representation, read)
