"""The orderly end of the gateway: what was accepted goes on to its end, and clients are led to other replicas.

aiohttp's own shutdown drops the rest of every body that is still being received (RequestHandler.close, seen in 3.14.5),
so that an upload under way could only time out. It gets the connections once nothing is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.broken_off import WRITE_TIMEOUT_S
from gateway.endless import Endless
from gateway.http_server import Runner
from gateway.idle_connections import IdleConnections
from gateway.readiness import Readiness

_LOOK_SECONDS = 0.05


def last_answers(readiness: Readiness) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """An on_response_prepare handler: while we drain, each connection ends with the answer that it gets."""

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        if readiness.draining:
            response.force_close()
            # aiohttp has made the headers before it calls this.
            response.headers["Connection"] = "close"

    return prepare


async def _until_all_is_sent(runner: Runner, seconds: float) -> None:
    """Return once every client has what it was answered, or after `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while runner.has_unsent():  # noqa: ASYNC110 - the kernel sets no event
                await asyncio.sleep(_LOOK_SECONDS)


async def drain(
    runner: Runner,
    idle: IdleConnections,
    readiness: Readiness,
    endless: Endless,
    *,
    notice_seconds: float,
    drain_seconds: float,
) -> None:
    """Say that we are not ready, go on accepting for a while, let the requests under way end, and close the rest.

    A request ends before the last of its answer is sent: a slow reader's may be here for as long as any other write.
    """
    readiness.draining = True
    await asyncio.sleep(notice_seconds)
    for site in list(runner.sites):
        await site.stop()
    endless.drain()
    loop = asyncio.get_running_loop()
    end = loop.time() + drain_seconds
    await idle.until_none_is_busy(drain_seconds)
    await _until_all_is_sent(runner, min(end - loop.time(), WRITE_TIMEOUT_S))
    await runner.cleanup()
