"""Bodies that are too long, too slow, cut off, or waited for, over real connections."""

from __future__ import annotations

import asyncio
import gc
import gzip
import weakref
import zlib
from collections.abc import Callable

import pytest
from aiohttp import web

from gateway import request_body
from gateway.invalid_request import InvalidRequestError, invalid_response
from gateway.multipart_form import FormFile
from gateway.request_body import ClientGoneError, RequestBody
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from tests.support.http_server import serving, wire
from tests.support.waiting import until
from tests.unit.gateway.stall_rig import Clock


async def echo_length(request: web.Request) -> web.Response:
    try:
        total = sum([len(chunk) async for chunk in RequestBody(request, max_size=1_000_000)])
    except ReelwayError as error:
        assert error.reason is ErrorReason.FILE_TOO_LARGE
        return web.Response(status=413)
    return web.Response(text=str(total))


@pytest.mark.parametrize("size", [0, 1, 999_999, 1_000_000])
async def test_whole(size: int) -> None:
    async with serving(echo_length) as port, wire(port) as connection:
        answer = await connection.ask("POST", "/", f"Content-Length: {size}", body=b"x" * size)
        assert (answer.status, answer.body) == (200, str(size).encode())
        assert (await connection.ask("POST", "/", "Content-Length: 1", body=b"x")).body == b"1"


async def test_chunked() -> None:
    async with serving(echo_length) as port, wire(port) as connection:
        body = b"5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n"
        assert (await connection.ask("POST", "/", "Transfer-Encoding: chunked", body=body)).body == b"8"


async def test_too_long_is_told_before_the_body() -> None:
    async with serving(echo_length) as port, wire(port) as connection:
        assert (await connection.ask("POST", "/", "Content-Length: 1000001")).status == 413


async def test_the_rest_of_a_body_that_was_refused_is_no_request() -> None:
    """A proxy that has the answer may leave it out, and send somebody else's request there (HAProxy 2.6 does)."""
    async with serving(echo_length) as port, wire(port) as connection:
        answer = await connection.ask("POST", "/", "Content-Length: 1000001", body=b"abc")
        assert (answer.status, answer.headers.get("connection")) == (413, "close")


async def test_too_long_without_a_length() -> None:
    async with serving(echo_length) as port, wire(port) as connection:
        piece = b"40000\r\n" + b"x" * 0x40000 + b"\r\n"
        assert (await connection.ask("POST", "/", "Transfer-Encoding: chunked", body=piece * 4)).status == 413


async def test_continue_comes_when_the_body_is_wanted() -> None:
    async with serving(echo_length) as port, wire(port) as connection:
        await connection.send("POST", "/", "Content-Length: 5", "Expect: 100-continue")
        assert (await connection.head()).status == 100
        connection.writer.write(b"hello")
        answer = await connection.head()
        assert (answer.status, await connection.reader.readexactly(1)) == (200, b"5")
        assert (await connection.ask("POST", "/", "Content-Length: 2", body=b"ho")).body == b"2"


async def test_what_nobody_could_handle_is_answered_behind_continue() -> None:
    """It is no beginning of an answer."""

    async def fail(request: web.Request) -> web.Response:
        raise RuntimeError(await RequestBody(request).read())

    async with serving(fail) as port, wire(port) as connection:
        await connection.send("POST", "/", "Content-Length: 5", "Expect: 100-continue")
        assert (await connection.head()).status == 100
        connection.writer.write(b"hello")
        assert (await connection.head()).status == 500


async def test_nothing_but_an_answer_comes_to_a_client_of_http_1_0() -> None:
    """It does not know what a 100 is (RFC 9110, 10.1.1)."""
    async with serving(echo_length) as port, wire(port) as connection:
        connection.writer.write(b"POST / HTTP/1.0\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n")
        assert (await connection.head()).status == 200


async def test_a_refusal_comes_instead_of_continue() -> None:
    async with serving(echo_length) as port, wire(port) as connection:
        await connection.send("POST", "/", "Content-Length: 9000000", "Expect: 100-continue")
        answer = await connection.head()
        # Some then send their next request in the place of the body, Go before 1.22.5 among them.
        assert (answer.status, answer.headers.get("connection")) == (413, "close")


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_a_client_that_sends_nothing_is_given_up(coding: str) -> None:
    async def impatient(request: web.Request) -> web.Response:
        return web.Response(body=b"".join([piece async for piece in RequestBody(request, idle_timeout=0.1)]))

    async with serving(impatient) as port, wire(port) as connection:
        begun = gzip.compress(b"abc")[:5]
        await connection.send("POST", "/", f"Content-Encoding: {coding}", "Content-Length: 10", body=begun)
        async with asyncio.timeout(30):
            assert (await connection.head()).status == 408


async def test_a_client_whose_bytes_nobody_takes_is_kept(clock: Clock) -> None:
    """The store may be slow."""

    async def take_slowly(request: web.Request) -> web.Response:
        body = RequestBody(request, idle_timeout=1)
        first = await body.read()
        clock.to(3)
        connection.writer.write(b"behind")
        return web.Response(body=first + b"".join([piece async for piece in body]))

    async with serving(take_slowly) as port, wire(port) as connection:
        answer = await connection.ask("POST", "/", "Content-Length: 10", body=b"now ")
    assert (answer.status, answer.body) == (200, b"now behind")


async def test_a_client_that_sends_slowly_is_kept(clock: Clock) -> None:
    taken: list[bytes] = []

    async def patient(request: web.Request) -> web.Response:
        async for piece in RequestBody(request, idle_timeout=1):
            taken.append(piece)  # noqa: PERF401 - seen while it grows
        return web.Response(text=str(len(b"".join(taken))))

    async with serving(patient) as port, wire(port) as connection:
        await connection.send("POST", "/", "Content-Length: 8", body=b"x")
        for number in range(1, 8):
            await until(lambda number=number: len(taken) == number)  # type: ignore[misc]
            clock.to(0.9 * number)
            connection.writer.write(b"x")
        answer = await connection.head()
        assert (answer.status, await connection.reader.readexactly(1)) == (200, b"8")


async def gives_up(drop: Callable[[], bytes], *headers: str, body: bytes = b"") -> None:
    """A client that sends `body`, and then a drop at a time, is answered 408."""

    async def count(request: web.Request) -> web.Response:
        body = RequestBody(request, grace=0.1)
        return web.Response(text=str(sum([len(chunk) async for chunk in body])))

    async def keep_dripping() -> None:
        while True:
            connection.writer.write(drop())
            await asyncio.sleep(0.02)

    async with serving(count) as port, wire(port) as connection:
        await connection.send("POST", "/", *headers, "Content-Length: 1000000", body=body)
        dripping = asyncio.create_task(keep_dripping())
        async with asyncio.timeout(30):
            assert (await connection.head()).status == 408
        dripping.cancel()


async def test_a_client_that_drips_is_given_up() -> None:
    await gives_up(lambda: b"x")


async def test_a_compressed_body_must_come_as_fast_as_any_other() -> None:
    """What is in it does not count: a little that is much would stand for hours."""
    packer = zlib.compressobj(wbits=31)

    def packed(data: bytes) -> bytes:
        return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)

    await gives_up(lambda: packed(b"x"), "Content-Encoding: gzip", body=packed(bytes(100_000)))


async def test_a_client_who_has_sent_all_is_not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes it may be."""

    async def take_slowly(request: web.Request) -> web.Response:
        body = RequestBody(request, grace=-1)
        monkeypatch.setattr(request_body, "SLOWEST_RATE", 0)
        first = await body.read()
        monkeypatch.setattr(request_body, "SLOWEST_RATE", 10**9)
        return web.Response(body=first + await body.read())

    async with serving(take_slowly) as port, wire(port) as connection:
        answer = await connection.ask("POST", "/", "Content-Length: 5", body=b"hello")
    assert (answer.status, answer.body) == (200, b"hello")


@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked"])
async def test_a_client_that_goes(framing: str) -> None:
    """Who reads for another service, in a task of the call's own, hears of it as well."""
    reading: list[asyncio.Task[bytes]] = []
    begun = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        body = RequestBody(request)
        await body.read()
        reading.append(asyncio.create_task(body.read()))
        begun.set()
        return await asyncio.Future()

    async with serving(handler) as port, wire(port) as connection:
        await connection.send("POST", "/", framing, body=b"5\r\nhello\r\n" if "chunked" in framing else b"abc")
        await asyncio.wait_for(begun.wait(), 30)
        connection.writer.transport.abort()
        with pytest.raises(ClientGoneError):
            await asyncio.wait_for(reading[0], 30)


async def test_what_was_read_to_its_end_is_held_by_nothing() -> None:
    """Not by the clock of its patience either, which has most of a minute to go."""
    read: list[weakref.ref[web.Request]] = []

    async def handler(request: web.Request) -> web.Response:
        read.append(weakref.ref(request))
        return web.Response(text=str([piece async for piece in RequestBody(request)]))

    async with serving(handler) as port, wire(port) as connection:
        for _ in range(3):
            await connection.ask("POST", "/", "Content-Length: 1", body=b"x")
        gc.collect()
        # The server itself holds the last one of a connection.
        assert [request() for request in read[:-1]] == [None, None]


async def test_a_body_that_is_not_encoded_as_it_says() -> None:
    async def handler(request: web.Request) -> web.Response:
        try:
            return web.Response(text=str(sum([len(chunk) async for chunk in RequestBody(request)])))
        except InvalidRequestError as error:
            return invalid_response(error)

    for body, status, said in ((b"hello", 422, b"cannot be decoded"), (gzip.compress(b"hello"), 200, b"5")):
        async with serving(handler) as port, wire(port) as connection:
            headers = ("Content-Encoding: gzip", f"Content-Length: {len(body)}")
            answer = await connection.ask("POST", "/", *headers, body=body)
        assert answer.status == status
        assert said in answer.body


def _form(size: int) -> tuple[str, bytes]:
    head = b'--B\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\nContent-Type: video/mp4\r\n\r\n'
    return "Content-Type: multipart/form-data; boundary=B", head + b"x" * size + b"\r\n--B--\r\n"


async def upload(request: web.Request) -> web.Response:
    try:
        file = await FormFile.open(request, "video", max_size=2_000_000)
        size = 0
        async for chunk in file.chunks():
            size += len(chunk)
    except ReelwayError as error:
        return web.Response(status=error.kind.http_status)
    except InvalidRequestError:
        return web.Response(status=422)
    return web.json_response([file.file_name, file.likely_size, size])


@pytest.mark.parametrize("size", [0, 1, 2_000_000])
async def test_a_file(size: int) -> None:
    async with serving(upload) as port, wire(port) as connection:
        content_type, body = _form(size)
        answer = await connection.ask("POST", "/", content_type, f"Content-Length: {len(body)}", body=body)
    assert answer.body.decode() == f'["a.mp4", {size}, {size}]'


async def test_a_file_one_byte_too_long() -> None:
    async with serving(upload) as port, wire(port) as connection:
        content_type, body = _form(2_000_001)
        answer = await connection.ask("POST", "/", content_type, f"Content-Length: {len(body)}", body=body)
    assert answer.status == 413


async def test_a_file_of_unknown_length_is_refused_where_it_becomes_too_long() -> None:
    """What a form may have around its file is no room for more of it."""
    content_type, body = _form(2_000_001)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    async with serving(upload) as port, wire(port) as connection:
        answer = await connection.ask("POST", "/", content_type, "Transfer-Encoding: chunked", body=chunked)
    assert answer.status == 413


async def test_a_form_that_breaks_off_behind_its_file_is_no_file() -> None:
    content_type, body = _form(5)
    cut = body.replace(b"--B--\r\n", b"--B\r\nContent-Disposition: form-data; name=a\r\n\r\nmore")
    async with serving(upload) as port, wire(port) as connection:
        answer = await connection.ask("POST", "/", content_type, f"Content-Length: {len(cut)}", body=cut)
    assert answer.status == 422


async def test_a_file_far_too_long_is_refused_before_it_is_sent() -> None:
    async with serving(upload) as port, wire(port) as connection:
        answer = await connection.ask("POST", "/", _form(0)[0], "Content-Length: 9000000", "Expect: 100-continue")
    assert answer.status == 413


async def test_what_was_broken_off_between_two_reads_is_held_by_nothing() -> None:
    """A megabyte may wait in it, and who breaks off can come again at once."""
    bodies: list[weakref.ref[RequestBody]] = []
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        body = RequestBody(request)
        bodies.append(weakref.ref(body))
        await body.read()
        begun.set()
        try:
            return await asyncio.Future()
        finally:
            ended.set()

    async with serving(handler) as port:
        async with wire(port) as connection:
            await connection.send("POST", "/", "Content-Length: 9", body=b"x")
            await asyncio.wait_for(begun.wait(), 30)
            connection.writer.transport.abort()
            await asyncio.wait_for(ended.wait(), 30)

        def is_gone() -> bool:
            gc.collect()
            return bodies[0]() is None

        await until(is_gone)
