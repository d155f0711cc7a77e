"""What the gateway does to each connection, on real sockets."""

from __future__ import annotations

import asyncio
import re
import socket
import time

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gateway import http_server
from gateway.request_body import RequestBody
from tests.unit.gateway.http_rig import ASKED, defects, serving


async def test_connections_that_come_while_the_loop_is_busy_wait() -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    async with serving(hello) as runner:
        # Nothing is accepted before the loop has its turn again; where none fits, the kernel keeps its client waiting.
        # More than aiohttp's 128, and not so many that with their other ends they need more than 1024 descriptors.
        clients = [socket.create_connection(runner.addresses[0][:2], timeout=0.5) for _ in range(300)]
        for client in (clients[0], clients[-1]):
            reader, writer = await asyncio.open_connection(sock=client)
            writer.write(ASKED)
            assert (await reader.read()).endswith(b"hello")
            writer.close()
        for client in clients:
            client.close()


async def test_an_idle_connection_is_not_closed_over_a_request_that_is_here() -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    async with serving(hello, idle_seconds=0.5) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await reader.readuntil(b"hello")
        # The loop is busy until it is time to close, and the request comes behind its last look at the sockets.
        asyncio.get_running_loop().call_later(0, writer.write, ASKED)
        time.sleep(0.55)  # noqa: ASYNC251
        assert (await reader.read()).endswith(b"hello")
        writer.close()


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


async def test_a_body_that_was_refused_is_no_defect_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """aiohttp reads on behind the answer, and meets the same exception."""

    async def handler(request: web.Request) -> web.Response:
        try:
            return web.Response(text=str([piece async for piece in RequestBody(request, idle_timeout=0.1)]))
        except web.HTTPRequestTimeout as error:
            return web.Response(status=error.status)

    async with serving(handler) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\na")
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 408")
        writer.close()
    assert not defects(caplog)


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
            assert runner.server is not None
            async with asyncio.timeout(30):
                # The kernel's own act, and what aiohttp does of it.
                while not kept or kept[0].get_write_buffer_size() or runner.server.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert not runner.has_unsent()


@pytest.mark.parametrize("begun", [False, True])
async def test_what_nobody_handles_has_one_answer(*, begun: bool) -> None:
    async def fail(request: web.Request) -> web.Response:
        if begun:
            await web.StreamResponse().prepare(request)
        raise RuntimeError("x" * 300)

    async with asyncio.timeout(30), serving(fail) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        with capture_logs() as lines:
            writer.write(ASKED)
            statuses = re.findall(rb"HTTP/1\.\d (\d+)", await reader.read())
        writer.close()
    assert statuses == [b"200" if begun else b"500"]
    assert [line["why"] for line in lines] == ([] if begun else ["RuntimeError: " + "x" * 186])


@pytest.mark.parametrize(("version", "length", "last"), [("1.0", None, True), ("1.0", 5, False), ("1.1", None, False)])
async def test_an_answer_of_unknown_length_ends_with_its_connection_in_http_1_0(
    version: str, length: int | None, *, last: bool
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.content_length = length
        await answer.prepare(request)
        await answer.write(b"hello")
        return answer

    async with asyncio.timeout(30), serving(stream) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        asked = f"GET / HTTP/{version}\r\nHost: test\r\nConnection: keep-alive\r\n\r\n".encode()
        writer.write(asked)
        first = await reader.readuntil(b"hello")
        if last:
            assert b"Connection: keep-alive" not in first
            assert await reader.read() == b""
        else:
            assert b"Connection: close" not in first
            writer.write(asked)
            assert f"HTTP/{version} 200 ".encode() in await reader.readuntil(b"hello")
        writer.close()
