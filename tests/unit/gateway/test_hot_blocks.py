"""What is in memory is given from there, exactly, and never more at once than a viewer has time for."""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict
from typing import Any
from unittest.mock import AsyncMock, Mock

import grpc
import pytest
from reelway.v1 import stream_pb2

from gateway.block_cache import BLOCK, BlockCache, BlockKey
from gateway.operations.playback import Playback
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

DATA = random.Random(4).randbytes(2 * BLOCK + 12_345)
STAT = stream_pb2.StatResponse(video_id="v", etag='"e"', size_bytes=len(DATA), sealed=True)


def hot(access: Any) -> Playback:
    """All of DATA is in memory; `access` is what Stat does."""
    cache = BlockCache(4 * BLOCK)
    for number in range(3):
        cache.put(BlockKey("v", '"e"', number), DATA[number * BLOCK : (number + 1) * BLOCK])
    return Playback(Mock(stat=AsyncMock(side_effect=access)), cache, 0)


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 1),
        (0, BLOCK),
        (0, len(DATA)),
        (BLOCK - 1, 2),
        (17, BLOCK),
        (BLOCK + 3, BLOCK + 12_342),
        (5, len(DATA) - 5),
        (len(DATA) - 1, 1),
    ],
)
async def test_hot_ranges_are_exact_and_bounded(offset: int, length: int) -> None:
    batches = [batch async for batch in hot([STAT, STAT]).read(STAT, offset, length)]
    assert b"".join(bytes(piece) for batch in batches for piece in batch) == DATA[offset : offset + length]
    assert all(0 < sum(map(len, batch)) <= BLOCK for batch in batches)
    # A range no longer than a block goes out in one write.
    assert length > BLOCK or len(batches) == 1


async def test_what_is_in_memory_is_given_only_while_it_may_be_seen() -> None:
    """A slow viewer got the whole of a video that was deleted, or made private, long before."""
    away, gone = ReelwayError(ErrorReason.SERVICE_UNAVAILABLE), ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
    reading = hot([away, gone]).read(STAT, 0, len(DATA))
    # Whoever began may see it; where that cannot be told, the viewer goes on.
    for _ in range(2):
        assert sum(map(len, await anext(reading))) == BLOCK
    with pytest.raises(ReelwayError) as refused:
        await anext(reading)
    assert refused.value.reason is ErrorReason.VIDEO_NOT_FOUND


class _Blocks(OrderedDict[BlockKey, bytes]):
    """Counts how many keys are looked for in it."""

    asked = 0

    def get(self, key: BlockKey, default: Any = None) -> Any:
        self.asked += 1
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.asked += 1
        return super().__contains__(key)


async def test_a_seek_costs_no_look_for_each_block_of_the_rest() -> None:
    """An open-ended range of a long video: the loop stood still while its blocks were asked for one by one."""
    long = stream_pb2.StatResponse(video_id="v", etag='"e"', size_bytes=50 * 2**30, sealed=True)
    window, backend = AsyncMock(), Mock()
    window.read.side_effect = itertools.chain([memoryview(b"first")], itertools.repeat(grpc.aio.EOF))
    backend.open_window.return_value = window
    cache, blocks = BlockCache(4 * BLOCK), _Blocks()
    cache._blocks = blocks
    reading = Playback(backend, cache, 1).read(long, 7, long.size_bytes - 7)
    assert await anext(reading) == (memoryview(b"first"),)
    await reading.aclose()
    assert 0 < blocks.asked <= 2


@pytest.mark.parametrize("here", [[], [3], [9, 4, 2], list(range(20))])
def test_the_first_block_of_a_range_that_is_here_is_found(here: list[int]) -> None:
    cache = BlockCache(64 * BLOCK)
    for number in here:
        cache.put(BlockKey("v", '"e"', number), b"x")
    for video_id, etag in (("v", '"other"'), ("w", '"e"')):
        cache.put(BlockKey(video_id, etag, 1), b"x")
    for numbers in (range(0), range(3), range(3, 9), range(10, 2**20), range(2**20)):
        assert cache.first_within("v", '"e"', numbers) == min(set(here) & set(numbers), default=None)
