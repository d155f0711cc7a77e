"""The gateway's server with one page, on a real socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from gateway.http_server import Runner

ASKED = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


def defects(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the server told of; the loop, which all tests share, may tell of what another one has left."""
    return [record.getMessage() for record in caplog.records if record.name != "asyncio"]


@contextlib.asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], idle_seconds: float = 60
) -> AsyncIterator[Runner]:
    """The gateway's server with one page."""
    app = web.Application()
    app.router.add_route("*", "/", handler)
    runner = Runner(app, unread_bytes=2**30, keepalive_timeout=idle_seconds)
    await runner.setup()
    try:
        await runner.listen("127.0.0.1", 0)
        yield runner
    finally:
        await runner.cleanup()
