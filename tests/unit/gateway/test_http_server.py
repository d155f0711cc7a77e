"""What the gateway does to each connection, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from aiohttp import web
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from gateway import http_server
from gateway.http_server import Runner
from gateway.invalid_request import InvalidRequestError
from gateway.request_body import RequestBody
from tests.support.waiting import until

ASKED = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


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
            assert runner.server is not None
            async with asyncio.timeout(30):
                # The kernel's own act, and what aiohttp does of it.
                while not kept or kept[0].get_write_buffer_size() or runner.server.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert not runner.has_unsent()


async def test_broken_framing_ends_a_body_at_once(caplog: pytest.LogCaptureFixture) -> None:
    begun, said = asyncio.Event(), []

    async def take(request: web.Request) -> web.Response:
        try:
            async for _ in RequestBody(request):
                begun.set()
        except InvalidRequestError:
            said.append("invalid")
            return web.Response(status=400)
        raise AssertionError("it had an end")

    async with asyncio.timeout(30), serving(take) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await begun.wait()
        writer.write(b"no length\r\n")
        answer = await reader.read()
        writer.close()
    assert said == ["invalid"]
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert not caplog.records


@dataclass
class Busy:
    """A connection whose first request is being answered, until it is told to go on."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    go_on: Callable[[], None]
    taken: int = 0
    """Bytes that the server has taken from it."""

    async def send(self, data: bytes) -> None:
        """Return when the server has all of it."""
        due = self.taken + len(data)
        self.writer.write(data)

        async def is_there() -> bool:
            return self.taken >= due

        await until(is_there)

    async def statuses(self) -> list[bytes]:
        """Of all answers, when the server has ended the connection."""
        return re.findall(rb"HTTP/1\.\d (\d+)", await self.reader.read())


@pytest.fixture
async def busy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Busy]:
    begun, go_on = asyncio.Event(), asyncio.Event()
    take = http_server._Protocol.data_received

    def count(protocol: http_server._Protocol, data: bytes) -> None:
        connection.taken += len(data)
        take(protocol, data)

    async def answer(request: web.Request) -> web.Response:
        if request.method == "GET":
            begun.set()
            await go_on.wait()
            return web.Response()
        try:
            return web.Response(text=str([piece async for piece in RequestBody(request)]))
        except InvalidRequestError:
            return web.Response(status=422)

    monkeypatch.setattr(http_server._Protocol, "data_received", count)
    async with asyncio.timeout(30), serving(answer) as runner:
        connection = Busy(*await asyncio.open_connection(*runner.addresses[0][:2]), go_on.set)
        await connection.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await begun.wait()
        yield connection
        connection.writer.close()


async def test_garbage_behind_a_request_does_not_cost_its_answer(busy: Busy, caplog: pytest.LogCaptureFixture) -> None:
    tracemalloc.start()
    try:
        for _ in range(16):
            await busy.send(b"\x01" * 2**18)
        # An error quotes what it refuses, four times as long: there is one, however much comes.
        assert tracemalloc.get_traced_memory()[0] < 8 * 2**20
    finally:
        tracemalloc.stop()
    busy.go_on()
    assert await busy.statuses() == [b"200", b"400"]
    assert not caplog.records


async def nobody(_: web.Request) -> web.Response:
    raise AssertionError("it was a request")


@pytest.mark.parametrize(
    ("asked", "status", "why"),
    [
        ("/ HTTP/1.1\r\nAuthorization: Bearer secret: \x01", b"400", "BadHttpMessage: Invalid header value char"),
        ("/ HTTP/1.1\r\nX: secret: " + "x" * 9000, b"431", "LineTooLong: Got more than 8190 bytes when reading"),
        ("http://me:secret/ HTTP/1.1", b"400", "InvalidURLError"),
    ],
    ids=["header", "long header", "target"],
)
async def test_what_is_refused_is_not_logged(asked: str, status: bytes, why: str) -> None:
    async with asyncio.timeout(30), serving(nobody) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        with capture_logs() as lines:
            writer.write(f"GET {asked}\r\nHost: test\r\n\r\n".encode())
            assert (await reader.readline()).split()[1] == status
            await reader.read()
        writer.close()
    (line,) = [line for line in lines if line["event"] == "request refused"]
    assert line["why"] == why
    assert "secret" not in str(line)


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


@pytest.mark.parametrize(
    ("framing", "body", "statuses"),
    [
        (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n", [b"200", b"422"]),
        (b"Content-Length: 5", b"hello", [b"200", b"200", b"400"]),
    ],
    ids=["in a body", "behind a body"],
)
async def test_framing_that_breaks_before_its_request_has_its_turn(
    busy: Busy, framing: bytes, body: bytes, statuses: list[bytes]
) -> None:
    await busy.send(b"POST / HTTP/1.1\r\nHost: test\r\n" + framing + b"\r\n\r\n" + body)
    await busy.send(b"no length\r\n")
    busy.go_on()
    assert await busy.statuses() == statuses


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: test\r\n\r\n", b"414"),
        (b"GET /" + b"a" * 9000, b"414"),
        (b"GET / HTTP/1.1\r\nHost: test\r\nX: /" + b"a" * 9000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: test\r\n" + b"a" * 9000 + b": x\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: test\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: test\r\n" + (b"X: " + b"y" * 8000 + b"\r\n") * 9, b"431"),
    ],
    ids=["target", "target without an end", "header", "name of a header", "headers", "headers without an end"],
)
async def test_what_is_too_long_is_named(asked: bytes, status: bytes) -> None:
    """RFC 9112, section 3, and RFC 6585, section 5; and it is counted."""
    labels = {"route": "unknown", "method": "other", "status": status.decode(), "reason": ""}

    def counted() -> float:
        return REGISTRY.get_sample_value("reelway_http_requests_total", labels) or 0

    before = counted()

    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    async with asyncio.timeout(30), serving(answer) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(asked)
        assert (await reader.read()).split()[1] == status
        writer.close()
    assert counted() == before + 1


async def test_requests_that_come_all_at_once_are_no_long_one() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    asked = b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"y" * 100 + b"\r\n\r\n"
    async with asyncio.timeout(30), serving(answer) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(asked * 1000 + ASKED)
        assert re.findall(rb"HTTP/1\.1 (\d+)", await reader.read()) == [b"200"] * 1001
        writer.close()


async def test_a_trailer_is_no_header_of_the_next_request() -> None:
    seen: list[str] = []

    async def take(request: web.Request) -> web.Response:
        seen.extend(request.headers)
        return web.Response(text=str([piece async for piece in RequestBody(request)]))

    async with asyncio.timeout(30), serving(take) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        chunked = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(chunked + b"0\r\nAuthorization: me\r\n\r\n" + ASKED)
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert "Authorization" not in seen


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.2", "websocket"])
async def test_a_request_that_offers_another_protocol_is_the_last_of_its_connection(protocol: str) -> None:
    """A client that sent another one behind it sends that one again, and takes no answer for another's."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="once")

    async with asyncio.timeout(30), serving(answer) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        offer = f"GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        writer.write(offer.encode() + ASKED)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in head
        assert await reader.read() == b"once"
        writer.close()


async def test_what_follows_connect_is_no_request() -> None:
    """It has no body, whatever it announces (RFC 9110, 9.3.6); a proxy that forwards it may think otherwise."""
    async with asyncio.timeout(30), serving(nobody) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        announced = f"Content-Length: {len(ASKED)}\r\n\r\n".encode()
        writer.write(b"CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\n" + announced + ASKED)
        answers = await reader.read()
        writer.close()
    assert re.findall(rb"HTTP/1\.\d (\d+)", answers) == [b"404"]
    assert b"\r\nConnection: close\r\n" in answers


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
