"""What is in memory is given from there, exactly, and never more at once than a viewer has time for."""

from __future__ import annotations

import random
from typing import Any

import pytest
from reelway.v1 import stream_pb2

from gateway.block_cache import BLOCK, BlockCache, BlockKey
from gateway.operations.playback import Playback

DATA = random.Random(4).randbytes(2 * BLOCK + 12_345)
STAT = stream_pb2.StatResponse(video_id="v", etag='"e"', size_bytes=len(DATA), sealed=True)
NOBODY_IS_ASKED: Any = None


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
    cache = BlockCache(4 * BLOCK)
    for number in range(3):
        cache.put(BlockKey("v", '"e"', number), DATA[number * BLOCK : (number + 1) * BLOCK])
    batches = [batch async for batch in Playback(NOBODY_IS_ASKED, cache, 1).read(STAT, offset, length)]
    assert b"".join(bytes(piece) for batch in batches for piece in batch) == DATA[offset : offset + length]
    assert all(0 < sum(map(len, batch)) <= BLOCK for batch in batches)
    # A range no longer than a block goes out in one write.
    assert length > BLOCK or len(batches) == 1
