"""What the gateway makes of bytes that are no request, or no more of one than a bound lets in, on real sockets."""

from __future__ import annotations

import asyncio
import re
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
from aiohttp import web
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from gateway import http_server
from gateway.invalid_request import InvalidRequestError
from gateway.request_body import RequestBody
from tests.support.waiting import until
from tests.unit.gateway.http_rig import ASKED, defects, serving


@pytest.mark.parametrize(
    "behind",
    [b"no length\r\n", b"0\r\n" + (b"X: " + b"y" * 8000 + b"\r\n") * 9],
    ids=["broken", "trailers without an end"],
)
async def test_broken_framing_ends_a_body_at_once(caplog: pytest.LogCaptureFixture, behind: bytes) -> None:
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
        writer.write(behind)
        answer = await reader.read()
        writer.close()
    assert said == ["invalid"]
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert not defects(caplog)


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
    assert not defects(caplog)


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
