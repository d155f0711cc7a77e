"""Connections on which no request comes are let go of; those with one are not."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import web

from gateway import idle_connections
from gateway.idle_connections import IdleConnections
from services.common import tasks
from tests.support.system import RunningSystem
from tests.support.videos_api import more
from tests.support.waiting import until

LARGE = 2**25
"""More than the kernel takes for a client that does not read."""


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server that gives a connection a short time for its first request, and longer for an answer."""
    idle = IdleConnections(first_request_seconds=0.2, next_request_seconds=0.2)

    @web.middleware
    async def middleware(request: web.Request, handler: object) -> web.StreamResponse:
        idle.request_began(request.protocol)
        body = await request.read()
        idle.request_ended(request.protocol)
        return web.Response(body=body)

    runner = web.AppRunner(web.Application(middlewares=[middleware], client_max_size=2 * LARGE))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.server is not None
    watch = asyncio.create_task(idle.watch(runner.server))
    yield runner.addresses[0][1]
    watch.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watch
    await runner.cleanup()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_connection_without_a_whole_head_is_closed(port: int, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


async def test_a_connection_is_closed_after_its_last_request_but_not_within_one(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
    # Two looks of the watch go by while the body is awaited.
    bystander, other = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionResetError):
            assert await bystander.read() == b""
        writer.write(b"b")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
    writer.close()
    other.close()


async def test_a_connection_is_not_closed_while_its_answer_is_taken(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % LARGE)
    writer.write(bytes(LARGE))
    await writer.drain()
    await reader.readuntil(b"\r\n\r\n")
    for _ in range(3):
        # As long as a connection may wait for a request.
        bystander, other = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionResetError):
            await bystander.read()
        other.close()
    assert len(await reader.readexactly(LARGE)) == LARGE
    writer.close()


class Connection:
    """One of a server's, as the watch sees it; `unsent` bytes of an answer are here still when it first asks."""

    def __init__(self, unsent: int = 0) -> None:
        self.socket, self.client = socket.socketpair()
        self.transport, self.abort, self.get_extra_info = self, Mock(), Mock(return_value=self.socket)
        self.get_write_buffer_size = Mock(side_effect=itertools.chain([unsent], itertools.repeat(0)))


@contextlib.asynccontextmanager
async def watched(idle: IdleConnections, *connections: Connection) -> AsyncIterator[None]:
    """Behind some looks at them, and at one that has nothing to wait for."""
    last = Connection()
    server: Any = SimpleNamespace(connections=[*connections, last])
    watching = asyncio.create_task(idle.watch(server))
    await until(lambda: last.abort.call_count > 3)
    yield
    await tasks.end(watching)
    for connection in server.connections:
        connection.socket.close()
        connection.client.close()


async def test_a_connection_whose_next_request_is_here_is_not_closed() -> None:
    connection = Connection()
    connection.client.send(b"GET / HTTP/1.1")
    async with watched(IdleConnections(0.01, 0.01), connection):
        assert not connection.abort.called
        connection.socket.recv(100)
        await until(lambda: connection.abort.called)


async def test_behind_an_answer_aiohttp_is_the_first_to_end_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows which requests it has read and not begun yet."""
    monkeypatch.setattr(idle_connections, "_LOOK_SECONDS", 60)
    idle, answered, being_sent = IdleConnections(0.01, 0.01), Connection(), Connection(unsent=1)
    idle.request_ended(answered)
    async with watched(idle, answered, being_sent):
        assert not answered.abort.called
        assert not being_sent.abort.called


REQUEST = b"GET /health HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("limit", "sent", "answered"),
    [
        ("FIRST_REQUEST_SECONDS", REQUEST + b"X-Slow: ", b""),
        ("NEXT_REQUEST_SECONDS", REQUEST + b"\r\n", b"HTTP/1.1 200"),
    ],
)
async def test_the_gateway_lets_go_of_them(system: RunningSystem, limit: str, sent: bytes, answered: bytes) -> None:
    async with more(system, "gateway", **{limit: "0.3"}) as gateway:
        reader, writer = await asyncio.open_connection(*gateway.listen.split(":"))
        writer.write(sent)
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionResetError):
                assert (await reader.read())[:12] == answered
        writer.close()
