"""Compressed bodies: whole or refused, at a bounded cost, over real connections."""

from __future__ import annotations

import gzip
import random
import time
import zlib
from collections.abc import Callable
from typing import cast

import pytest
from aiohttp import StreamReader, web

from gateway.content_encoding import DecodedContent
from gateway.invalid_request import InvalidRequestError, invalid_response
from gateway.request_body import RequestBody
from tests.support.costs import at_most, others_run
from tests.support.http_server import Answer, serving, wire

MIB = 2**20
NOISE = random.Random(0).randbytes(300_000)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


async def told(request: web.Request) -> web.Response:
    """The length and the checksum of what came, which may be more than fits into memory."""
    length = checksum = 0
    try:
        async for piece in RequestBody(request):
            length, checksum = length + len(piece), zlib.crc32(piece, checksum)
    except InvalidRequestError as error:
        return invalid_response(error)
    return web.Response(text=f"{length} {checksum}")


async def ask(coding: str, body: bytes) -> Answer:
    async with serving(told) as port, wire(port) as connection:
        return await connection.ask(
            "POST", "/", f"Content-Encoding: {coding}", f"Content-Length: {len(body)}", body=body
        )


async def is_whole(coding: str, body: bytes, data: bytes) -> bool:
    answer = await ask(coding, body)
    return (answer.status, answer.body) == (200, f"{len(data)} {zlib.crc32(data)}".encode())


@pytest.mark.parametrize("data", [b"", b"hello", NOISE, bytes(3 * MIB)], ids=len)
async def test_what_was_packed_comes_out(data: bytes) -> None:
    assert await is_whole("gzip", gzip.compress(data), data)
    assert await is_whole("x-gzip, , identity", gzip.compress(data), data)
    assert await is_whole("GZip", gzip.compress(data) + gzip.compress(NOISE), data + NOISE)
    assert await is_whole("deflate", zlib.compress(data), data)
    assert await is_whole("deflate", raw_deflate(data), data)
    # Nobody knows what this says.
    assert await is_whole("utf-8", data, data)


async def test_nothing_is_nothing_in_every_coding() -> None:
    assert await is_whole("gzip", b"", b"")


@pytest.mark.parametrize("beyond", [0, 1, 21, 28, 53, 258, 259])
async def test_what_ends_beyond_a_pieces_limit(beyond: int) -> None:
    """zlib may have all of its input by then, and hold back the end of its output."""
    data = bytes(2**18 + beyond)
    assert await is_whole("deflate", raw_deflate(data), data)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(NOISE)[:-1]),
        ("gzip", gzip.compress(NOISE)[:-9]),
        ("gzip", gzip.compress(NOISE)[:150_000]),
        ("gzip", gzip.compress(NOISE) + gzip.compress(NOISE)[:-1]),
        ("gzip", b"\x1f"),
        ("gzip", gzip.compress(NOISE)[:-8] + bytes(8)),
        ("gzip", gzip.compress(NOISE) + b"garbage"),
        ("gzip", NOISE),
        ("deflate", zlib.compress(NOISE)[:-1]),
        ("deflate", raw_deflate(NOISE)[:-1]),
        ("deflate", raw_deflate(NOISE) + b"garbage"),
        ("br", zlib.compress(NOISE)),
        ("zstd", NOISE),
        ("compress", NOISE),
        ("x-compress", NOISE),
        ("gzip, gzip", gzip.compress(gzip.compress(NOISE))),
    ],
)
async def test_what_is_not_whole_is_refused(coding: str, body: bytes) -> None:
    answer = await ask(coding, body)
    assert (answer.status, b"cannot be decoded" in answer.body) == (422, True)


async def test_a_transfer_coding_that_we_do_not_undo_is_refused() -> None:
    packed = gzip.compress(b"hello")
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed)
    async with serving(told) as port, wire(port) as connection:
        assert (await connection.ask("POST", "/", "Transfer-Encoding: gzip, chunked", body=body)).status == 501
    async with serving(told) as port, wire(port) as connection:
        # One that we do, in another case.
        answer = await connection.ask("POST", "/", "Transfer-Encoding: Chunked", "Content-Encoding: gzip", body=body)
    assert (answer.status, answer.body) == (200, f"5 {zlib.crc32(b'hello')}".encode())


async def test_the_connection_outlives_a_refusal() -> None:
    async with serving(told) as port, wire(port) as connection:
        for status, body in ((422, NOISE[:1000]), (200, gzip.compress(NOISE))):
            answer = await connection.ask(
                "POST", "/", "Content-Encoding: gzip", f"Content-Length: {len(body)}", body=body
            )
            assert answer.status == status


class Came:
    """What has come of a body, as its reader finds it."""

    set_exception = None

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = [*pieces, b""]

    async def readany(self) -> bytes:
        return self.pieces.pop(0)


async def test_what_has_come_behind_a_member_does_not_make_it_dearer() -> None:
    """zlib copies it at the end of each."""
    members, seconds = [gzip.compress(b"") * 800] * 60, []
    for pieces in (members, [b"".join(members)]):
        began = time.process_time()
        assert await DecodedContent(cast(StreamReader, Came(*pieces)), "gzip").readany() == b""
        seconds.append(time.process_time() - began)
    assert seconds[1] < 3 * seconds[0]


# Made in the test: the one takes most of a second, and every worker reads every file.
@pytest.mark.parametrize(
    "bomb",
    [lambda: gzip.compress(bytes(256 * MIB), 9), lambda: gzip.compress(b"") * 30_000],
    ids=["large", "of many members"],
)
async def test_a_bomb_costs_neither_memory_nor_the_others_turn(bomb: Callable[[], bytes]) -> None:
    body = bomb()
    with at_most(8 * MIB):
        assert (await others_run(lambda: ask("gzip", body))).status == 200
