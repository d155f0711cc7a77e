"""Reading across many small objects: a few ahead, in order, and nothing for a reader that has left."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.extents import read_slices
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import Slice
from tests.support.waiting import until

SMALL, LARGE = 1000, 2**20


class Store:
    """Answers when it is told to; counts what is under way."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.under_way, self.most, self.asked = 0, 0, 0
        self.missing = ""

    async def read(self, key: str, offset: int, length: int) -> AsyncIterator[bytes]:
        self.asked += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.may_answer.wait()
            if key == self.missing:
                raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
            yield key.encode() + bytes(length - len(key))
        finally:
            self.under_way -= 1


def wanted(sizes: list[int]) -> list[Slice]:
    return [Slice(f"{number:03}", 0, size) for number, size in enumerate(sizes)]


async def pieces(store: Store, sizes: list[int]) -> list[bytes]:
    return [bytes(piece) async for piece in read_slices(cast(S3Bytes, store), wanted(sizes))]


async def test_small_ones_are_fetched_a_few_ahead_and_come_in_order() -> None:
    store = Store()
    reading = asyncio.create_task(pieces(store, [SMALL] * 100))
    await until(lambda: store.under_way == 8)
    store.may_answer.set()
    assert [int(piece[:3]) for piece in await reading] == list(range(100))
    assert (store.most, store.asked, store.under_way) == (8, 100, 0)


async def test_a_large_one_is_not_held_whole_ahead_of_its_turn() -> None:
    store = Store()
    reading = asyncio.create_task(pieces(store, [SMALL, SMALL, LARGE, SMALL, LARGE, LARGE]))
    await until(lambda: store.under_way == 2)
    store.may_answer.set()
    found = await reading
    assert [(int(piece[:3]), len(piece)) for piece in found] == [
        (0, SMALL), (1, SMALL), (2, LARGE), (3, SMALL), (4, LARGE), (5, LARGE),
    ]  # fmt: skip
    assert store.asked == 6


async def test_who_leaves_waits_for_nothing_and_leaves_nothing_under_way() -> None:
    store = Store()
    reading = asyncio.create_task(pieces(store, [SMALL] * 20))
    await until(lambda: store.under_way == 8)
    reading.cancel()
    await asyncio.wait([reading], timeout=10)
    assert reading.cancelled()
    assert store.under_way == 0


async def test_an_object_that_is_gone_ends_the_reading_where_it_would_have_come() -> None:
    store = Store()
    store.missing = "005"
    store.may_answer.set()
    reading = aiter(read_slices(cast(S3Bytes, store), wanted([SMALL] * 20)))
    assert [int(bytes(await anext(reading))[:3]) for _ in range(5)] == list(range(5))
    with pytest.raises(ReelwayError) as raised:
        await anext(reading)
    assert raised.value.reason is ErrorReason.VIDEO_NOT_FOUND
    assert store.under_way == 0
