"""What the gateway does to each connection, on real sockets."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web

from gateway import http_server
from gateway.http_server import Runner

ASKED = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


async def send_buffer() -> int:
    """How much the kernel may hold for a client of the gateway's server, as it says."""

    async def tell(request: web.Request) -> web.Response:
        assert request.transport is not None
        ours = request.transport.get_extra_info("socket")
        return web.Response(text=str(ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)))

    app = web.Application()
    app.router.add_get("/", tell)
    runner = Runner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(ASKED)
        answer = await reader.read()
        writer.close()
        return int(answer.rpartition(b"\r\n\r\n")[2])
    finally:
        await runner.cleanup()


async def test_a_client_nearby_has_a_bounded_buffer() -> None:
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**19)
        assert await send_buffer() == asked.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


async def test_a_client_far_away_has_what_the_kernel_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    # Loopback has no distance, so what counts as near is moved instead.
    monkeypatch.setattr(http_server, "_NEAR_MICROSECONDS", -1)
    untouched = await send_buffer()
    monkeypatch.undo()
    assert untouched != await send_buffer()
