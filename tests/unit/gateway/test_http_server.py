"""What the gateway does to each connection, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from gateway import http_server
from gateway.http_server import Runner
from gateway.invalid_request import InvalidRequestError, invalid_response
from gateway.request_body import RequestBody

ASKED = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


@contextlib.asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[Runner]:
    """The gateway's server with one page."""
    app = web.Application()
    app.router.add_route("*", "/", handler)
    runner = Runner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner
    finally:
        await runner.cleanup()


async def send_buffer() -> int:
    """How much the kernel may hold for a client of the gateway's server, as it says."""

    async def tell(request: web.Request) -> web.Response:
        assert request.transport is not None
        ours = request.transport.get_extra_info("socket")
        return web.Response(text=str(ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)))

    async with serving(tell) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(ASKED)
        answer = await reader.read()
        writer.close()
        return int(answer.rpartition(b"\r\n\r\n")[2])


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


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"Content-Length: 5\r\n\r\na", 408), (b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", 422)],
)
async def test_a_body_that_was_refused_is_no_defect_of_ours(
    sent: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """aiohttp reads on behind the answer, and meets the same exception."""

    async def handler(request: web.Request) -> web.Response:
        try:
            return web.Response(text=str([piece async for piece in RequestBody(request, idle_timeout=0.1)]))
        except web.HTTPRequestTimeout as error:
            return web.Response(status=error.status)
        except InvalidRequestError as error:
            return invalid_response(error)

    async with serving(handler) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n" + sent)
        async with asyncio.timeout(10):
            assert (await reader.read()).startswith(b"HTTP/1.1 %d" % status)
        writer.close()
    assert not caplog.records


async def test_the_end_of_an_answer_that_nobody_reads_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "WRITE_TIMEOUT_S", 1.0)
    kept: list[asyncio.Transport] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        kept.append(request.transport)
        # The kernel takes most of it, and the handler does not wait for the rest.
        ours = request.transport.get_extra_info("socket")
        return web.Response(body=bytes(ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) + 2**15))

    async with serving(answer) as runner:
        with socket.socket() as viewer:
            viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
            viewer.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(viewer, runner.addresses[0][:2])
            await loop.sock_sendall(viewer, ASKED)
            async with asyncio.timeout(20):
                while not kept or kept[0].get_write_buffer_size() or runner.has_unsent():  # noqa: ASYNC110 - the kernel's own act
                    await asyncio.sleep(0.05)
            assert runner.server is not None
            assert not runner.server.connections


async def test_broken_framing_ends_a_body_at_once() -> None:
    begun, said = asyncio.Event(), []

    async def take(request: web.Request) -> web.Response:
        try:
            async for _ in RequestBody(request):
                begun.set()
        except InvalidRequestError:
            said.append("invalid")
            return web.Response(status=400)
        raise AssertionError("it had an end")

    async with asyncio.timeout(10), serving(take) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await begun.wait()
        writer.write(b"no length\r\n")
        answer = await reader.read()
        writer.close()
    assert said == ["invalid"]
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
