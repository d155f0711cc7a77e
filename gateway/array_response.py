"""Answers with a JSON array of any length, a page at a time, so that one page is what it takes of memory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator

from aiohttp import web

from gateway.broken_off import FAILED, VIEWER_LEFT, WRITE_TIMEOUT_S, break_off
from gateway.stall_watch import StallWatch
from services.common.logs import get_logger

_log = get_logger(__name__)


async def array_response(
    request: web.Request, pages: AsyncGenerator[list[dict[str, object]], None]
) -> web.StreamResponse:
    """The elements of all pages, of which there is at least one, as one array.

    Raises:
        Exception: whatever the first two pages raise; a later failure breaks the connection off.
    """
    async with contextlib.aclosing(pages):
        page: list[dict[str, object]] | None = await anext(pages)
        following = await anext(pages, None)
        if following is None:
            return web.json_response(page)
        response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
        watch = StallWatch(WRITE_TIMEOUT_S, lambda: break_off(request, VIEWER_LEFT))
        opening = "["
        try:
            await response.prepare(request)
            if request.method == "HEAD":
                return response  # of which aiohttp would not leave out what is written here
            while page is not None:
                if page:
                    watch.begin()
                    await response.write((opening + json.dumps(page)[1:-1]).encode())
                    watch.end()
                    opening = ", "
                page, following = following, await anext(pages, None)
            await response.write(b"[]" if opening == "[" else b"]")
        except ConnectionError:
            break_off(request, VIEWER_LEFT)
        except Exception:
            _log.exception("a list failed in the middle of its answer")
            break_off(request, FAILED)
        finally:
            watch.close()
    return response
