"""The orderly end of the gateway: what was accepted goes on to its end, and clients are led to other replicas.

aiohttp's own shutdown drops the rest of every body that is still being received (RequestHandler.close, seen in 3.14.5),
so that an upload under way could only time out. It gets the connections once nothing is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.endless import Endless
from gateway.idle_connections import IdleConnections
from gateway.readiness import Readiness


def last_answers(readiness: Readiness) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """An on_response_prepare handler: while we drain, each connection ends with the answer that it gets."""

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        if readiness.draining:
            response.force_close()
            # The headers were made before this is asked.
            response.headers["Connection"] = "close"

    return prepare


async def drain(
    runner: web.AppRunner,
    idle: IdleConnections,
    readiness: Readiness,
    endless: Endless,
    *,
    notice_seconds: float,
    drain_seconds: float,
) -> None:
    """Say that we are not ready, go on accepting for a while, let the requests under way end, and close the rest."""
    readiness.draining = True
    await asyncio.sleep(notice_seconds)
    for site in list(runner.sites):
        await site.stop()
    endless.drain()
    await idle.until_none_is_busy(drain_seconds)
    await runner.cleanup()
