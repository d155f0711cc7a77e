"""What is kept of sealed videos in memory: what is read again, what was read last, and never more than the limit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest
from reelway.v1 import stream_pb2

from gateway.block_cache import BLOCK, BlockCache, BlockKey
from gateway.operations.playback import Playback
from gateway.stream_backend import StreamBackend

DATA = random.Random(5).randbytes(3 * BLOCK + 12_345)
STAT = stream_pb2.StatResponse(video_id="v", etag='"e"', size_bytes=len(DATA), sealed=True)


def key(number: int) -> BlockKey:
    return BlockKey("v", '"e"', number)


def kept(cache: BlockCache) -> set[int]:
    return {number for number in range(20) if cache.first_within("v", '"e"', range(number, number + 1)) is not None}


class _Window:
    """A stream of messages that fit no block's border."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self) -> Any:
        if not self._data:
            return grpc.aio.EOF
        message, self._data = self._data[:300_007], self._data[300_007:]
        return memoryview(message)

    def done(self) -> bool:
        return True


class _Backend:
    """A stream service that notes the ranges that it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    async def read_range(self, video_id: str, etag: str, offset: int, length: int) -> bytes:
        self.asked.append((offset, length))
        await asyncio.sleep(0)
        return DATA[offset : offset + length]

    async def stat(self, request: stream_pb2.StatRequest) -> stream_pb2.StatResponse:
        return STAT

    def open_window(self, video_id: str, etag: str, offset: int, length: int) -> _Window:
        self.asked.append((offset, length))
        return _Window(DATA[offset : offset + length])


class _Viewer:
    """Reads through a cache, and is given the right bytes each time."""

    def __init__(self, limit_bytes: int, *, sealed: bool = True) -> None:
        self.backend, self.cache = _Backend(), BlockCache(limit_bytes)
        self._playback = Playback(cast(StreamBackend, self.backend), self.cache, 1)
        self._stat = stream_pb2.StatResponse()
        self._stat.CopyFrom(STAT)
        self._stat.sealed = sealed

    async def asks_for(self, offset: int, length: int) -> list[tuple[int, int]]:
        """What the service was asked for to answer this."""
        before = len(self.backend.asked)
        batches: AsyncIterator[Any] = self._playback.read(self._stat, offset, length)
        read = b"".join([bytes(piece) async for batch in batches for piece in batch])
        assert read == DATA[offset : offset + length]
        return self.backend.asked[before:]


def test_what_was_read_last_stays_within_the_limit() -> None:
    cache = BlockCache(3 * BLOCK)
    for number in range(3):
        cache.put(key(number), bytes(BLOCK))
    assert kept(cache) == {0, 1, 2}
    assert cache.get(key(0))
    cache.put(key(3), bytes(BLOCK))
    assert kept(cache) == {0, 2, 3}
    # What is put again takes no more room than before, and a video's last block no more than it has.
    cache.put(key(2), bytes(BLOCK))
    assert kept(cache) == {0, 2, 3}
    for number in range(4, 12):
        cache.put(key(number), bytes(BLOCK // 4))
    assert kept(cache) == {2, *range(4, 12)}


async def test_a_block_is_kept_from_its_second_reading_on() -> None:
    viewer = _Viewer(4 * BLOCK)
    assert await viewer.asks_for(5, 10) == [(5, 10)]
    assert await viewer.asks_for(90, 10) == [(0, BLOCK)]
    assert await viewer.asks_for(7, 1000) == []
    assert kept(viewer.cache) == {0}
    # The end of a video is a shorter block.
    last = 3 * BLOCK
    assert await viewer.asks_for(last + 1, 5) == [(last + 1, 5)]
    assert await viewer.asks_for(last + 9, 5) == [(last, 12_345)]
    assert await viewer.asks_for(last, 12_345) == []
    # Of a short range over a border both blocks were read.
    border = 2 * BLOCK
    assert await viewer.asks_for(border - 5, 10) == [(border - 5, 10)]
    assert await viewer.asks_for(border - 5, 10) == [(BLOCK, BLOCK), (border, BLOCK)]


async def test_whole_blocks_of_a_stream_are_kept_from_its_second_pass_on() -> None:
    viewer = _Viewer(8 * BLOCK)
    for _ in range(2):
        assert kept(viewer.cache) == set()
        assert await viewer.asks_for(17, len(DATA) - 17)
    # It entered the first one in the middle.
    assert kept(viewer.cache) == {1, 2, 3}
    assert await viewer.asks_for(BLOCK, len(DATA) - BLOCK) == []


async def test_a_stream_goes_round_what_is_in_memory() -> None:
    viewer = _Viewer(8 * BLOCK)
    for _ in range(2):
        await viewer.asks_for(BLOCK + 5, 10)
    assert kept(viewer.cache) == {1}
    assert await viewer.asks_for(0, len(DATA)) == [(0, BLOCK), (2 * BLOCK, BLOCK), (3 * BLOCK, 12_345)]


async def test_one_reading_serves_all_who_wait_for_a_block() -> None:
    viewer = _Viewer(4 * BLOCK)
    await viewer.asks_for(5, 10)
    await asyncio.gather(*(viewer.asks_for(number, 10) for number in range(5)))
    assert viewer.backend.asked == [(5, 10), (0, BLOCK)]


@pytest.mark.parametrize(("limit_bytes", "sealed"), [(BLOCK - 1, True), (0, True), (4 * BLOCK, False)])
async def test_nothing_is_kept_without_room_or_of_what_may_grow(limit_bytes: int, sealed: bool) -> None:
    viewer = _Viewer(limit_bytes, sealed=sealed)
    for _ in range(3):
        assert await viewer.asks_for(5, 10) == [(5, 10)]
        # The second window is longer, and all that is left.
        assert await viewer.asks_for(0, len(DATA)) == [(0, BLOCK), (BLOCK, len(DATA) - BLOCK)]
    assert kept(viewer.cache) == set()


async def test_room_for_one_block_keeps_one() -> None:
    viewer = _Viewer(BLOCK)
    for _ in range(2):
        await viewer.asks_for(5, 10)
    assert kept(viewer.cache) == {0}
