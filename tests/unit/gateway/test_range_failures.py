"""What becomes of viewers and readers that fail, leave or are slow in the middle of an answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from unittest.mock import Mock, call

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gateway import range_response
from gateway.broken_off import BROKEN_OFF
from gateway.range_response import Batch, Representation, respond
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from tests.support.http_server import serving, wire
from tests.support.waiting import until
from tests.unit.gateway.range_rig import DATA, REPRESENTATION, SIZE, Reader, viewer
from tests.unit.gateway.stall_rig import Clock


@pytest.mark.parametrize("asked", [[], ["Range: bytes=1-2"], ["Range: bytes=1-2,5-6"]])
async def test_a_reader_that_fails_at_once_is_an_error_answer(asked: list[str]) -> None:
    async def read(offset: int, length: int) -> AsyncGenerator[Batch, None]:
        if length:
            raise web.HTTPServiceUnavailable
        yield (b"",)

    async with viewer(read) as connection:
        answer = await connection.ask("GET", "/", *asked)
    assert answer.status == 503


@pytest.mark.parametrize("given", [70_000, SIZE - 1])
@pytest.mark.parametrize("how", ["raises", "ends", "loses its connection", "finds nobody who has it"])
async def test_a_reader_that_fails_later_breaks_the_connection(given: int, how: str) -> None:
    async def read(offset: int, length: int) -> AsyncGenerator[Batch, None]:
        yield (DATA[:given],)
        if how == "raises":
            raise RuntimeError("the store is gone")
        if how == "loses its connection":
            raise ConnectionResetError
        if how == "finds nobody who has it":
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    told: list[int] = []
    with capture_logs() as logs:
        async with viewer(read, broken_off=told) as connection:
            await connection.send("GET")
            answer = await connection.head()
            with contextlib.suppress(ConnectionResetError):
                got = await connection.reader.read()
                assert len(got) < SIZE
                assert DATA.startswith(got)
            assert connection.reader.at_eof() or connection.reader.exception() is not None
    assert answer.headers["content-length"] == str(SIZE)
    assert told == [500], "counted as the failure that it is"
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [
        "read failed in the middle of a response"
    ]


async def test_a_reader_that_is_refused_later_is_no_failure() -> None:
    """Of a popular video that is deleted, each viewer was counted as a failure of ours, with a stack trace."""

    async def read(offset: int, length: int) -> AsyncGenerator[Batch, None]:
        yield (DATA[:70_000],)
        raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)

    told: list[int] = []
    with capture_logs() as logs:
        async with viewer(read, broken_off=told) as connection:
            await connection.send("GET")
            await connection.head()
            with contextlib.suppress(ConnectionResetError):
                assert len(await connection.reader.read()) < SIZE
    assert told == [404]
    assert "error" not in [entry["log_level"] for entry in logs]


@pytest.mark.parametrize("written", [70_000, 0])
async def test_a_viewer_who_leaves_between_two_writes_is_no_failure(written: int) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        async def read(offset: int, length: int) -> AsyncGenerator[Batch, None]:
            if written:
                yield (DATA[:written],)
            assert request.transport is not None
            request.transport.abort()  # as it does itself when it meets a peer that is gone
            yield (DATA[written:],)

        response = await respond(request, REPRESENTATION, read)
        told.append(request[BROKEN_OFF])
        return response

    told: list[int] = []
    with capture_logs() as logs:
        async with serving(handler) as port, wire(port) as connection:
            await connection.send("GET")
            await until(lambda: bool(told))
    assert told == [499]
    assert "error" not in [entry["log_level"] for entry in logs]


async def test_a_reader_that_gives_too_much_is_not_believed() -> None:
    async def read(offset: int, length: int) -> AsyncGenerator[Batch, None]:
        yield (DATA[:100_000],)
        yield (DATA[:100_000],)

    with capture_logs() as logs:
        async with viewer(read) as connection:
            await connection.send("GET", "/", "Range: bytes=0-150000")
            await connection.head()
            with contextlib.suppress(ConnectionResetError):
                assert len(await connection.reader.read()) <= 100_000
    assert "error" in [entry["log_level"] for entry in logs]


async def closed(reader: Reader) -> None:
    await until(lambda: bool(reader.asked) and not reader.open)


class Endless(Reader):
    """Far more than any socket buffers."""

    size = 1 << 40

    async def __call__(self, offset: int, length: int) -> AsyncGenerator[Batch, None]:
        self.asked.append((offset, length))
        self.open += 1
        try:
            while True:
                yield (DATA,)
        finally:
            self.open -= 1


ENDLESS = Representation(Endless.size, '"e"', REPRESENTATION.modify_time, "video/mp4", "inline")


async def test_a_viewer_that_leaves_is_no_error() -> None:
    reader = Endless()
    told: list[int] = []
    with capture_logs() as logs:
        async with viewer(reader, ENDLESS, broken_off=told) as connection:
            await connection.send("GET")
            await connection.reader.readexactly(3_000_000)
            connection.writer.transport.abort()
            await closed(reader)
    assert told == [499]
    assert not [entry for entry in logs if entry["log_level"] not in ("debug", "info")]


async def test_a_viewer_that_stops_reading_is_let_go() -> None:
    reader = Endless()
    with capture_logs() as logs:
        async with viewer(reader, ENDLESS, write_timeout=0.3) as connection:
            await connection.send("GET")
            await connection.reader.readexactly(100_000)
            connection.stop_reading()
            await closed(reader)
    assert [entry["event"] for entry in logs] == ["viewer stopped reading"]


@pytest.mark.parametrize(
    ("is_forgotten", "written"), [(True, call.write(b"abc")), (False, call.writelines((b"ab", b"c")))]
)
async def test_who_writes_to_a_slow_viewer_is_paused(
    monkeypatch: pytest.MonkeyPatch, is_forgotten: bool, written: object
) -> None:
    """`writelines` of some versions of asyncio pauses nobody: all would be kept for the viewer."""
    monkeypatch.setattr(range_response, "_IS_PAUSE_FORGOTTEN", is_forgotten)
    transport = Mock(asyncio.Transport)
    range_response._write(transport, (b"ab", b"c"))
    assert transport.method_calls == [written]


async def test_a_slow_reader_is_not_the_viewers_fault(clock: Clock) -> None:
    async def read(offset: int, length: int) -> AsyncGenerator[Batch, None]:
        yield (DATA[:100_000],)
        clock.to(4)
        yield (DATA[100_000:],)

    async with viewer(read, write_timeout=1) as connection:
        assert (await connection.ask("GET")).body == DATA


async def test_a_slow_viewer_is_kept(clock: Clock) -> None:
    """Who takes longer in all than one chunk may."""
    reader = Reader()

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        return await respond(request, REPRESENTATION, reader, write_timeout=1)

    async with serving(handler) as port:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        received = b""
        while chunk := await loop.sock_recv(client, 20_000):
            received += chunk
            clock.to(5 * len(received) / SIZE)
        client.close()
    assert received.partition(b"\r\n\r\n")[2] == DATA
