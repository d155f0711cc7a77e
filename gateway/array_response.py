"""Answers with a JSON array of any length, a piece at a time, so that a piece is what it takes of memory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Iterable

from aiohttp import web

from gateway.broken_off import FAILED, VIEWER_LEFT, WRITE_TIMEOUT_S, break_off
from gateway.stall_watch import StallWatch
from services.common.logs import get_logger

_log = get_logger(__name__)

_PIECE = 2**16
Pages = AsyncGenerator[Iterable[dict[str, object]], None]


async def _pieces(pages: Pages) -> AsyncGenerator[str, None]:
    """The array as JSON, in pieces of some 64 KiB; there is at least one."""
    piece, opening = "[", ""
    async with contextlib.aclosing(pages):
        async for page in pages:
            for element in page:
                # Escaped to ASCII, most of the world's letters would take two to three times as much.
                piece += opening + json.dumps(element, ensure_ascii=False)
                opening = ", "
                if len(piece) >= _PIECE:
                    yield piece
                    piece = ""
    yield piece + "]"


async def array_response(request: web.Request, pages: Pages) -> web.StreamResponse:
    """The elements of all pages as one array; each is made when its turn comes.

    Raises:
        Exception: whatever `pages` raise before the second piece; a later failure breaks the connection off.
    """
    async with contextlib.aclosing(_pieces(pages)) as pieces:
        piece: str | None = await anext(pieces)
        following = await anext(pieces, None)
        if following is None:
            return web.json_response(text=piece)
        response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
        watch = StallWatch(WRITE_TIMEOUT_S, lambda: break_off(request, VIEWER_LEFT))
        try:
            await response.prepare(request)
            if request.method == "HEAD":
                return response  # aiohttp would send what is written here, to HEAD, too
            while piece is not None:
                watch.begin()
                await response.write(piece.encode())
                watch.end()
                piece, following = following, await anext(pieces, None)
        except ConnectionError:
            break_off(request, VIEWER_LEFT)
        except Exception:
            _log.exception("a list failed in the middle of its answer")
            break_off(request, FAILED)
        finally:
            watch.close()
    return response
