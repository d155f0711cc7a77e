"""Answers to GET and HEAD as they are on the wire, and what becomes of viewers and readers that fail."""

from __future__ import annotations

import asyncio
import contextlib
import email
import random
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from unittest.mock import Mock, call
from urllib.parse import unquote

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gateway import range_response
from gateway.broken_off import BROKEN_OFF
from gateway.range_response import Batch, Read, Representation, content_disposition, respond
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from tests.support.http_server import Answer, Wire, serving, wire
from tests.support.waiting import until

DATA = random.Random(9110).randbytes(1_000_003)
SIZE = len(DATA)
REPRESENTATION = Representation(
    size=SIZE,
    etag='"v1"',
    modify_time=datetime(2024, 5, 6, 7, 8, 9, 5, tzinfo=UTC),
    content_type="video/mp4",
    disposition='inline; filename="a.mp4"',
)


class Reader:
    """Reads DATA in odd chunks; remembers what was asked for and whether each read was brought to its end."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.open = 0

    async def __call__(self, offset: int, length: int) -> AsyncGenerator[Batch, None]:
        self.asked.append((offset, length))
        self.open += 1
        try:
            position = offset
            while position < offset + length:
                end = min(position + 65_537, offset + length)
                yield (memoryview(DATA)[position:end],)
                position = end
                await asyncio.sleep(0)
        finally:
            self.open -= 1


@contextlib.asynccontextmanager
async def viewer(
    read: Read,
    representation: Representation = REPRESENTATION,
    write_timeout: float = 20,
    broken_off: list[int] | None = None,
) -> AsyncIterator[Wire]:
    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            return await respond(request, representation, read, write_timeout=write_timeout)
        finally:
            left_open.append(read.open if isinstance(read, Reader) else 0)
            if broken_off is not None:
                broken_off.append(request.get(BROKEN_OFF, 0))

    left_open: list[int] = []
    async with serving(handler) as port, wire(port) as connection:
        yield connection
    assert not any(left_open), "a reader is closed before its request is over, not when it is collected"


def parts_of(answer: Answer) -> list[tuple[str, str, bytes]]:
    """Read multipart/byteranges with the standard library: type, range and bytes of each part."""
    header = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(header + answer.body)
    assert not message.defects
    found = []
    for part in message.get_payload():
        assert isinstance(part, email.message.Message)
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        found.append((part["Content-Type"], part["Content-Range"], payload))
    return found


async def test_whole() -> None:
    reader = Reader()
    async with viewer(reader) as connection:
        answer = await connection.ask("GET")
    assert answer.status == 200
    assert answer.body == DATA
    for name, value in {
        "content-type": "video/mp4",
        "content-length": str(SIZE),
        "content-disposition": 'inline; filename="a.mp4"',
        "accept-ranges": "bytes",
        "etag": '"v1"',
        "last-modified": "Mon, 06 May 2024 07:08:09 GMT",
        "cache-control": "private, no-cache",
        "x-content-type-options": "nosniff",
    }.items():
        assert answer.headers[name] == value
    assert "content-range" not in answer.headers
    assert reader.open == 0


@pytest.mark.parametrize(
    ("asked", "offset", "length"),
    [
        ("0-1", 0, 2),
        ("0-0", 0, 1),
        (f"{SIZE - 1}-", SIZE - 1, 1),
        ("-1", SIZE - 1, 1),
        ("0-", 0, SIZE),
        ("1-65536", 1, 65_536),
        ("1-65537", 1, 65_537),
        ("65535-65538", 65_535, 4),
        ("777-600001", 777, 599_225),
        (f"5-{SIZE * 9}", 5, SIZE - 5),
    ],
)
async def test_one_range(asked: str, offset: int, length: int) -> None:
    reader = Reader()
    async with viewer(reader) as connection:
        answer = await connection.ask("GET", "/", f"Range: bytes={asked}")
    assert answer.status == 206
    assert answer.body == DATA[offset : offset + length]
    assert answer.headers["content-range"] == f"bytes {offset}-{offset + length - 1}/{SIZE}"
    assert answer.headers["content-type"] == "video/mp4"
    assert reader.asked == [(offset, length)], "reads what is sent and nothing else"


async def test_several_ranges() -> None:
    reader = Reader()
    async with viewer(reader) as connection:
        answer = await connection.ask("GET", "/", "Range: bytes=500000-700000, 0-1, -3")
        again = await connection.ask("GET", "/", "Range: bytes=500000-700000, 0-1, -3")
    assert answer.status == 206
    assert "content-range" not in answer.headers
    assert parts_of(answer) == [
        ("video/mp4", f"bytes 500000-700000/{SIZE}", DATA[500_000:700_001]),
        ("video/mp4", f"bytes 0-1/{SIZE}", DATA[:2]),
        ("video/mp4", f"bytes {SIZE - 3}-{SIZE - 1}/{SIZE}", DATA[-3:]),
    ]
    assert answer.headers["content-type"] != again.headers["content-type"], "a boundary nobody can foresee"
    assert reader.open == 0


async def test_only_one_of_several_exists() -> None:
    async with viewer(Reader()) as connection:
        answer = await connection.ask("GET", "/", f"Range: bytes={SIZE}-, 3-4")
    assert (answer.status, answer.body) == (206, DATA[3:5])
    assert answer.headers["content-range"] == f"bytes 3-4/{SIZE}"


@pytest.mark.parametrize("asked", ["frames=0-1", "bytes=2-1", "bytes=x", "bytes=0-9,0-9,0-9"])
async def test_a_range_that_is_ignored(asked: str) -> None:
    async with viewer(Reader()) as connection:
        answer = await connection.ask("GET", "/", f"Range: {asked}")
    assert (answer.status, answer.body) == (200, DATA)


async def test_two_range_lines_are_none() -> None:
    async with viewer(Reader()) as connection:
        answer = await connection.ask("GET", "/", "Range: bytes=0-1", "Range: bytes=3-4")
    assert answer.status == 200


async def test_unsatisfiable() -> None:
    reader = Reader()
    async with viewer(reader) as connection:
        answer = await connection.ask("GET", "/", f"Range: bytes={SIZE}-")
        # The connection is good for more.
        assert (await connection.ask("GET", "/", "Range: bytes=0-1")).status == 206
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.body == b'{"detail": "The range is not inside the file"}'
    assert reader.asked == [(0, 2)]


async def test_head_is_a_get_without_its_body() -> None:
    reader = Reader()
    async with viewer(reader) as connection:
        head = await connection.ask("HEAD")
        get = await connection.ask("GET")
        ranged = await connection.ask("HEAD", "/", "Range: bytes=0-1")
    drop_date = {name: value for name, value in get.headers.items() if name != "date"}
    assert {name: value for name, value in head.headers.items() if name != "date"} == drop_date
    assert head.status == 200
    # Section 14.2 knows ranges of GET only.
    assert (ranged.status, ranged.headers["content-length"]) == (200, str(SIZE))
    assert reader.asked == [(0, SIZE)]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_not_modified(method: str) -> None:
    async with viewer(Reader()) as connection:
        answer = await connection.ask(method, "/", 'If-None-Match: "v1"', "Range: bytes=0-1")
        assert (await connection.ask("GET", "/", "Range: bytes=0-1")).body == DATA[:2]
    assert answer.status == 304
    assert {"etag", "last-modified", "cache-control"} <= answer.headers.keys()
    assert not {"content-length", "content-type", "transfer-encoding"} & answer.headers.keys()


async def test_precondition_failed() -> None:
    async with viewer(Reader()) as connection:
        answer = await connection.ask("GET", "/", 'If-Match: "v0"')
        head = await connection.ask("HEAD", "/", 'If-Match: "v0"')
        assert (await connection.ask("GET", "/", "Range: bytes=0-1")).body == DATA[:2]
    assert (answer.status, answer.body) == (412, b'{"detail": "Precondition failed"}')
    assert {"etag", "last-modified", "cache-control"} <= answer.headers.keys()
    assert head.status == 412


@pytest.mark.parametrize(
    ("if_range", "status"),
    [('"v1"', 206), ('"v0"', 200), ('W/"v1"', 200), ("Mon, 06 May 2024 07:08:09 GMT", 206)],
)
async def test_if_range(if_range: str, status: int) -> None:
    async with viewer(Reader()) as connection:
        answer = await connection.ask("GET", "/", "Range: bytes=0-1", f"If-Range: {if_range}")
    assert (answer.status, answer.body) == (status, DATA[:2] if status == 206 else DATA)


async def test_no_bytes_at_all() -> None:
    empty = Representation(0, '"e"', REPRESENTATION.modify_time, "video/mp4", "inline")
    async with viewer(Reader(), empty) as connection:
        whole = await connection.ask("GET")
        ranged = await connection.ask("GET", "/", "Range: bytes=0-1")
    assert (whole.status, whole.headers["content-length"], whole.body) == (200, "0", b"")
    assert (ranged.status, ranged.headers["content-range"]) == (416, "bytes */0")


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


async def test_a_viewer_who_leaves_between_two_writes_is_no_failure() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        async def read(offset: int, length: int) -> AsyncGenerator[Batch, None]:
            yield (DATA[:70_000],)
            assert request.transport is not None
            request.transport.abort()  # as it does itself when it meets a peer that is gone
            yield (DATA[70_000:],)

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


async def test_a_slow_reader_is_not_the_viewers_fault() -> None:
    async def read(offset: int, length: int) -> AsyncGenerator[Batch, None]:
        yield (DATA[:100_000],)
        await asyncio.sleep(0.4)
        yield (DATA[100_000:],)

    async with viewer(read, write_timeout=0.1) as connection:
        assert (await connection.ask("GET")).body == DATA


async def test_a_slow_viewer_is_kept() -> None:
    reader = Reader()

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        return await respond(request, REPRESENTATION, reader, write_timeout=0.5)

    async with serving(handler) as port:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        began = loop.time()
        received = b""
        while chunk := await loop.sock_recv(client, 20_000):
            received += chunk
            await asyncio.sleep(0.02)
        client.close()
    assert received.partition(b"\r\n\r\n")[2] == DATA
    assert loop.time() - began > 0.5, "took longer in all than one chunk may"


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("a.mp4", 'attachment; filename="a.mp4"'),
        ("my video.mp4", 'attachment; filename="my video.mp4"'),
        ('a"b.mp4', "attachment; filename=\"a_b.mp4\"; filename*=UTF-8''a%22b.mp4"),
        ("größe.mp4", "attachment; filename=\"gr__e.mp4\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.mp4"),
        ("100%.mp4", "attachment; filename=\"100%.mp4\"; filename*=UTF-8''100%25.mp4"),
        ("../etc/x\r\nSet-Cookie: a.mp4", 'attachment; filename="etcxSet-Cookie: a.mp4"'),
        ("C:\\x~1.mp4", 'attachment; filename="C:x~1.mp4"'),
        ("", 'attachment; filename="video"'),
        ("\ud800.mp4", 'attachment; filename="mp4"'),
    ],
)
def test_content_disposition(filename: str, expected: str) -> None:
    value = content_disposition("attachment", filename)
    assert value == expected
    assert unquote(value).isprintable()
