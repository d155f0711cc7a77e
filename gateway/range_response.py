"""Answers GET and HEAD of a video: conditionals, ranges, multipart/byteranges, and the bytes themselves.

The rules are in `byte_range` and `conditional`; this module writes. Nothing here buffers: a response holds the
batch it is writing and what the kernel has of it, however slowly the viewer reads.

A viewer that stops reading is let go (see `broken_off`). The limit is for one whole batch rather than for any sign
of life, so a reader that takes a byte a minute does not stay either.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias
from urllib.parse import quote

from aiohttp import web

from gateway.broken_off import FAILED, VIEWER_LEFT, WRITE_TIMEOUT_S, break_off
from gateway.byte_range import ByteRange, Unsatisfiable, parse_range
from gateway.conditional import Decision, Outcome, evaluate, http_date
from gateway.stall_watch import StallWatch
from services.common.byte_messages import Buffer
from services.common.errors import ReelwayError
from services.common.logs import get_logger

#: Chunks that are there at once, and are written at once; never empty.
Batch: TypeAlias = Sequence[Buffer]
#: Called with offset and length; yields exactly `length` bytes in chunks of any size. Errors raised before the
#: first batch become the response; later ones break the connection off. Closed when the viewer leaves.
Read: TypeAlias = Callable[[int, int], AsyncGenerator[Batch, None]]

_log = get_logger(__name__)

# In these, asyncio's `writelines` never pauses who writes faster than the viewer reads (CVE-2024-12254).
_IS_PAUSE_FORGOTTEN = (3, 12, 0) <= sys.version_info[:3] < (3, 12, 9) or (3, 13, 0) <= sys.version_info[:3] < (3, 13, 2)


@dataclass(frozen=True, slots=True)
class Representation:
    """What a video URL stands for at this moment.

    Attributes:
        size: in bytes.
        etag: strong entity tag with its quotes; changes whenever the bytes do.
        modify_time: time of the last change, timezone-aware.
        content_type: of the whole.
        disposition: value of Content-Disposition, see `content_disposition`.
        cache_control: the default lets the viewer's own cache keep the bytes, to be asked for again by ETag
            before each use, and keeps shared caches out: who may see a video, and whether it is still there,
            can change at any moment.
        content_encoding: of the bytes, where they are compressed.
        headers: further ones, of every answer.
    """

    size: int
    etag: str
    modify_time: datetime
    content_type: str
    disposition: str
    cache_control: str = "private, no-cache"
    content_encoding: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@functools.lru_cache(4096)
def content_disposition(kind: str, filename: str) -> str:
    """Value of Content-Disposition (RFC 6266): `kind` is inline or attachment.

    `filename` may hold anything; what is not printable ASCII is `_` in the plain parameter and exact in
    `filename*`, which is added only where the two differ. Control characters, path separators and leading dots are
    dropped from both: some clients would follow them.
    """
    name = "".join(c for c in filename if c.isprintable() and c not in "/\\").lstrip(".") or "video"
    plain = "".join(c if " " <= c <= "~" and c != '"' else "_" for c in name)
    value = f'{kind}; filename="{plain}"'
    # A percent sign is decoded by some clients and not by others unless the exact form is there, too.
    if plain != name or "%" in name:
        value += f"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
    return value


async def respond(
    request: web.Request,
    representation: Representation,
    read: Read,
    *,
    write_timeout: float = WRITE_TIMEOUT_S,
) -> web.StreamResponse:
    """Answer `request`, a GET or HEAD, from `representation`.

    200, 206 (one range, or multipart/byteranges), 304, 412 or 416 by RFC 9110 sections 13 and 14. Range is
    ignored for HEAD, for which section 14.2 does not define it. Headers of the answer are complete and
    Content-Length is exact in each case.

    Args:
        request: the request.
        representation: what is asked for.
        read: gives the bytes.
        write_timeout: seconds that the viewer may take for one batch before the connection is closed.

    Raises:
        Exception: whatever `read` raises before its first batch; nothing was sent then.
    """
    decision = evaluate(request.method, request.headers, representation.etag, representation.modify_time)
    headers = {
        "ETag": representation.etag,
        "Last-Modified": http_date(representation.modify_time),
        "Accept-Ranges": "bytes",
        "Cache-Control": representation.cache_control,
        **representation.headers,
    }
    if decision.outcome is Outcome.NOT_MODIFIED:
        return web.Response(status=304, headers=headers)
    if decision.outcome is Outcome.PRECONDITION_FAILED:
        return web.json_response({"detail": "Precondition failed"}, status=412, headers=headers)

    ranges = _ranges(request, decision, representation.size)
    if isinstance(ranges, Unsatisfiable):
        headers["Content-Range"] = ranges.content_range
        return web.json_response({"detail": "The range is not inside the file"}, status=416, headers=headers)

    headers["Content-Disposition"] = representation.disposition
    if representation.content_encoding:
        headers["Content-Encoding"] = representation.content_encoding
    # The type was sniffed from the bytes; a browser that guesses again could find a page in them.
    headers["X-Content-Type-Options"] = "nosniff"
    body = _Body.plan(ranges, representation)
    headers["Content-Type"] = body.content_type
    headers["Content-Length"] = str(body.length)
    if ranges is not None and len(ranges) == 1:
        headers["Content-Range"] = ranges[0].content_range(representation.size)
    status = 200 if ranges is None else 206
    if request.method == "HEAD" or body.length == 0:
        return web.Response(status=status, headers=headers)
    async with contextlib.aclosing(body.batches(read)) as batches:
        # The first bytes are here before the status is: a failure up to now is still an ordinary error answer.
        first = await anext(batches)
        response = web.StreamResponse(status=status, headers=headers)
        with _broken_off_on_failure(request):
            await _write_all(request, response, first, batches, write_timeout)
    return response


def _ranges(request: web.Request, decision: Decision, size: int) -> list[ByteRange] | Unsatisfiable | None:
    if not decision.range_applies:
        return None
    # Range is one value; several lines of it make one that cannot be parsed, and is ignored.
    lines = request.headers.getall("Range", None)
    return parse_range(None if lines is None else ", ".join(lines), size)


@dataclass(frozen=True, slots=True)
class _Body:
    """What is written, in order: each part is its own header and a range; `closing` ends it."""

    parts: Sequence[tuple[bytes, ByteRange]]
    closing: bytes
    content_type: str
    length: int

    @classmethod
    def plan(cls, ranges: list[ByteRange] | None, representation: Representation) -> _Body:
        size, content_type = representation.size, representation.content_type
        if ranges is None or len(ranges) == 1:
            whole = ranges[0] if ranges else ByteRange(0, size)
            return cls([(b"", whole)], b"", content_type, whole.length)
        # 128 random bits: nobody can put this boundary into a video beforehand.
        boundary = secrets.token_hex(16)
        parts: list[tuple[bytes, ByteRange]] = []
        for r in ranges:
            opening = "\r\n" if parts else ""
            head = (
                f"{opening}--{boundary}\r\n"
                f"Content-Type: {content_type}\r\n"
                f"Content-Range: {r.content_range(size)}\r\n\r\n"
            )
            parts.append((head.encode("latin-1"), r))
        closing = f"\r\n--{boundary}--\r\n".encode()
        length = len(closing) + sum(len(head) + r.length for head, r in parts)
        return cls(parts, closing, f"multipart/byteranges; boundary={boundary}", length)

    async def batches(self, read: Read) -> AsyncGenerator[Batch, None]:
        """The bytes of the response; RuntimeError where `read` gives more or fewer than it was asked for."""
        for opening, r in self.parts:
            head, missing = opening, r.length
            async with contextlib.aclosing(read(r.offset, r.length)) as source:
                async for batch in source:
                    missing -= sum(map(len, batch))
                    if missing < 0:
                        break
                    # Nothing goes out before the first bytes are here.
                    yield (head, *batch) if head else batch
                    head = b""
            if missing:
                raise RuntimeError(f"asked for {r.length} bytes at {r.offset}, {missing} are missing")
        if self.closing:
            yield (self.closing,)


class _ViewerLeftError(Exception):
    """The connection broke: what viewers do all day."""


@contextlib.contextmanager
def _broken_off_on_failure(request: web.Request) -> Iterator[None]:
    """The status is out: only a broken connection still tells the client that bytes are missing."""
    try:
        yield
    except _ViewerLeftError:
        break_off(request, VIEWER_LEFT)
    except Exception as error:
        if isinstance(error, ReelwayError) and error.kind.http_status < 500:
            # The video was deleted meanwhile, or made private.
            _log.info("reading refused in the middle of a response", why=str(error))
            break_off(request, error.kind.http_status)
        else:
            _log.exception("read failed in the middle of a response")
            break_off(request, FAILED)
    except BaseException:
        break_off(request, VIEWER_LEFT)
        raise


def _write(transport: asyncio.Transport, batch: Batch) -> None:
    """Give the connection all of it, in one system call where it can take that much."""
    if _IS_PAUSE_FORGOTTEN and isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
        transport.write(b"".join(batch))
    else:
        transport.writelines(batch)


async def _write_all(
    request: web.Request,
    response: web.StreamResponse,
    first: Batch,
    rest: AsyncIterator[Batch],
    write_timeout: float,
) -> None:
    def stalled() -> None:
        _log.info("viewer stopped reading", seconds=write_timeout)
        break_off(request, VIEWER_LEFT)

    watch = StallWatch(write_timeout, stalled)
    batch: Batch | None = first
    try:
        try:
            writer = await response.prepare(request)
        except ConnectionError as error:
            raise _ViewerLeftError from error
        if writer is None:
            raise _ViewerLeftError
        while batch is not None:
            watch.begin()
            try:
                # Not by the writer, which makes a system call for each chunk of a batch.
                if request.transport is None or request.transport.is_closing():
                    raise _ViewerLeftError
                _write(request.transport, batch)
                await writer.drain()
            except ConnectionError as error:
                raise _ViewerLeftError from error
            watch.end()
            batch = await anext(rest, None)
    finally:
        watch.close()
