"""Bodies that are held until they are whole share one bound, and have a deadline, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import zlib
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import REGISTRY, Gauge
from pydantic import BaseModel

from gateway import request_body
from gateway.chunk_body import read_fields
from gateway.held_bodies import LARGEST, _Room
from gateway.http_errors import response_of
from gateway.multipart_form import FORM_TYPE, FormFile
from gateway.routing import Answer, Routes, register
from services.common.byte_pool import BytePool
from services.common.caller import Caller, set_caller
from services.common.errors import ReelwayError
from tests.support.http_server import Wire, serving_app, wire
from tests.support.waiting import until

MIB = 2**20
JSON, URLENCODED, FORM = "application/json", "application/x-www-form-urlencoded", f"{FORM_TYPE}; boundary=B"
PART = '--B\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
BEGINNINGS = [
    ("/chunk", JSON, '{"chunk": "'),
    ("/chunk", URLENCODED, "chunk="),
    ("/chunk", FORM, PART % "chunk"),
    ("/model", JSON, '{"title": "'),
    ("/model", URLENCODED, "title="),
    ("/model", FORM, PART % "title"),
]
EACH = pytest.mark.parametrize(("path", "content_type", "begins"), BEGINNINGS)

routes = Routes("test")


class Title(BaseModel):
    title: str


@routes.post("/model", summary="Read whole", answers={200: Answer("Done")})
async def model(_: web.Request, body: Title) -> web.Response:
    return web.Response(text=str(len(body.title)))


@routes.post("/chunk", summary="Read by the handler", answers={200: Answer("Done")})
async def chunk(request: web.Request) -> web.Response:
    read = await read_fields(request, ("chunk",), "video_id")
    return web.Response(text=str(sum([len(piece) async for piece in read.data])))


@routes.post("/file", summary="Streamed", answers={200: Answer("Done")})
async def file(request: web.Request) -> web.Response:
    read = await FormFile.open(request, "video", max_size=MIB)
    return web.Response(text=str(sum([len(piece) async for piece in read.chunks()])))


@web.middleware
async def edge(request: web.Request, handler: Handler) -> web.StreamResponse:
    set_caller(Caller(request.headers.get("X-User", "")))
    try:
        return await handler(request)
    except ReelwayError as error:
        return response_of(error)


def told() -> float:
    return REGISTRY.get_sample_value("reelway_held_body_bytes") or 0


@contextlib.asynccontextmanager
async def serving(held_bytes: int) -> AsyncIterator[int]:
    app = web.Application(middlewares=[edge], client_max_size=MIB)
    register(app.router, routes)
    async with serving_app(app, held_bytes) as port:
        yield port


async def begin(connection: Wire, path: str, content_type: str, begins: str, size: int, *headers: str) -> None:
    """Send a body of `size` bytes and more, compressed, but not its end."""
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(begins.encode() + b"A" * size) + packer.flush(zlib.Z_SYNC_FLUSH)
    lines = (f"Content-Type: {content_type}", "Content-Encoding: gzip", f"Content-Length: {len(packed) + 20}")
    await connection.send("POST", path, *lines, *headers, body=packed)


@EACH
async def test_what_does_not_fit_beside_others_is_refused(path: str, content_type: str, begins: str) -> None:
    size, before = MIB // 2, told()
    async with serving(2 * MIB) as port, wire(port) as refused:
        async with contextlib.AsyncExitStack() as others:
            for user in ("X-User: one", "X-User: another"):
                await begin(await others.enter_async_context(wire(port)), path, content_type, begins, size, user)
            await until(lambda: told() >= before + 2 * (size + len(begins)))
            await begin(refused, path, content_type, begins, size)
            answer = await refused.head()
            assert (answer.status, answer.headers["retry-after"]) == (429, "5")
            await until(lambda: told() < before + 2.5 * size)
        await until(lambda: told() == before)
        async with wire(port) as other:
            await begin(other, path, content_type, begins, size)
            await until(lambda: told() >= before + size)
        await until(lambda: told() == before)


@pytest.mark.parametrize("user", ["X-User: greedy", "X: no user"])
@pytest.mark.parametrize(("size", "fitting"), [(30_000, 34), (MIB // 4, 2)])
async def test_one_caller_holds_at_most_half(user: str, size: int, fitting: int) -> None:
    before = told()
    async with serving(2 * MIB) as port, contextlib.AsyncExitStack() as greedy, wire(port) as other:
        for _ in range(fitting):
            await begin(await greedy.enter_async_context(wire(port)), "/chunk", JSON, '{"chunk": "', size, user)
        await until(lambda: told() >= before + fitting * size)
        # What one body gives back is its own room alone.
        small = await greedy.enter_async_context(wire(port))
        lines = (f"Content-Type: {URLENCODED}", "Content-Length: 7", user)
        assert (await small.ask("POST", "/model", *lines, body=b"title=a")).status == 200
        refused = await greedy.enter_async_context(wire(port))
        await begin(refused, "/chunk", JSON, '{"chunk": "', size, user)
        assert (await refused.head()).status == 429
        body = b'{"title": "%s"}' % (b"A" * (MIB // 3))
        lines = (f"Content-Type: {JSON}", f"Content-Length: {len(body)}", "X-User: other")
        assert (await other.ask("POST", "/model", *lines, body=body)).status == 200


def test_a_caller_who_holds_nothing_is_forgotten() -> None:
    """There are as many as there are users."""
    held = Counter[str]()
    rooms = [_Room(MIB, BytePool(MIB, Gauge("held_for_a_test", "", registry=None)), held, "anna") for _ in range(2)]
    for room in rooms:
        room.grow(10)
    rooms[0].give_back()
    assert held == {"anna": 10}
    rooms[1].give_back()
    assert "anna" not in held


def test_what_is_kept_for_small_bodies_no_other_takes() -> None:
    """A body is small until it is longer than 64 KiB, in however many pieces it comes."""
    pool, held = BytePool(MIB, Gauge("kept_for_a_test", "", registry=None)), Counter[str]()
    large, small = (_Room(MIB, pool, held, "anna") for _ in range(2))
    large.grow(MIB // 2 - MIB // 8)
    for room, size, fits in ((large, 1, False), (small, 2**16, True), (small, 1, False)):
        with contextlib.nullcontext() if fits else pytest.raises(ReelwayError):
            room.grow(size)


async def test_a_long_body_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "WHOLE_BODY_S", 0.0)
    monkeypatch.setattr(request_body, "HELD_RATE", 1000)
    before = told()
    async with serving(MIB) as port, wire(port) as connection:
        lines = (f"Content-Type: {JSON}", "Content-Length: 30014")
        await connection.send("POST", "/model", *lines, body=b'{"title": "')
        await until(lambda: told() > before)
        connection.writer.write(b"A" * 30_001 + b'"}')
        assert (await connection.head()).status == 200


def test_a_phone_has_the_time_for_the_longest_body() -> None:
    assert request_body.WHOLE_BODY_S + LARGEST / request_body.HELD_RATE > LARGEST / 20_000


async def test_a_byte_takes_the_room_of_the_object_around_it() -> None:
    """A compressed body may come in bytes."""
    before = told()
    async with serving(MIB) as port, wire(port) as connection:
        await connection.send("POST", "/model", f"Content-Type: {JSON}", "Content-Length: 9", body=b"{")
        await until(lambda: told() >= before + sys.getsizeof(b"{"))


async def test_an_answer_makes_room() -> None:
    before = told()
    async with serving(4 * MIB) as port, wire(port) as connection:
        for _ in range(3):
            body = b'{"title": "%s"}' % (b"a" * MIB)[:-100]
            lines = (f"Content-Type: {JSON}", f"Content-Length: {len(body)}")
            answer = await connection.ask("POST", "/model", *lines, body=body)
            assert (answer.status, answer.body) == (200, b"%d" % (MIB - 100))
    assert told() == before


async def test_large_bodies_leave_room_for_small_ones() -> None:
    before = told()
    async with serving(4 * MIB) as port, contextlib.AsyncExitStack() as large, wire(port) as small:
        for _ in range(3):
            await begin(await large.enter_async_context(wire(port)), "/chunk", JSON, '{"chunk": "', MIB // 2 - 100)
        await until(lambda: told() > before + MIB)
        answer = await small.ask(
            "POST", "/model", f"Content-Type: {URLENCODED}", "Content-Length: 60006", body=b"title=" + b"a" * 60_000
        )
        assert answer.status == 200


@pytest.mark.parametrize("length", [10_000, 10**12])
@EACH
async def test_a_body_that_drips_is_given_up(
    path: str, content_type: str, begins: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "WHOLE_BODY_S", 0.2)
    monkeypatch.setattr(request_body, "HELD_RATE", 10**9)

    async def keep_dripping() -> None:
        while True:
            connection.writer.write(b"A")
            await asyncio.sleep(0.02)

    async with serving(2 * LARGEST) as port, wire(port) as connection:
        lines = (f"Content-Type: {content_type}", f"Content-Length: {length}")
        await connection.send("POST", path, *lines, body=begins.encode())
        dripping = asyncio.create_task(keep_dripping())
        async with asyncio.timeout(30):
            status = (await connection.head()).status
        dripping.cancel()
        assert status == (413 if length > LARGEST and (path, content_type) != ("/chunk", FORM) else 408)


@pytest.mark.parametrize(
    ("path", "name", "before"),
    [("/file", "video", "x"), ("/chunk?video_id=1", "chunk", "x"), ("/chunk", "chunk", "video_id")],
)
async def test_what_is_sent_on_as_it_comes_takes_no_room(path: str, name: str, before: str) -> None:
    fields = PART % "title" + "A" * MIB + "\r\n" + PART % before + "1\r\n"
    body = fields + PART % name + "bytes\r\n--B--\r\n"
    async with serving(0) as port, wire(port) as connection:
        lines = (f"Content-Type: {FORM}", f"Content-Length: {len(body)}")
        assert (await connection.ask("POST", path, *lines, body=body.encode())).body == b"5"
