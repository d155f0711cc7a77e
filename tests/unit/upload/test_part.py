"""A part that is sent while it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from services.common.byte_messages import Buffer
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.upload.part import Part
from tests.support.waiting import until


class Store:
    """Refuses its first requests, as S3 does with one that brings nothing for 20 s; our S3 servers have all day."""

    def __init__(self, refusals: int) -> None:
        self._refusals = refusals
        self.asked: list[int] = []

    async def put(self, length: int, body: Callable[[], AsyncIterator[Buffer]]) -> str:
        self.asked.append(length)
        data = b""
        async for piece in body():
            data += piece
            if len(self.asked) <= self._refusals:
                raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        return data.decode()


async def test_what_a_client_was_too_slow_for_goes_again_once_it_is_whole() -> None:
    store, part = Store(refusals=1), Part(6)
    sending = asyncio.create_task(part.send(store.put))
    part.add(b"abc")
    await until(lambda: store.asked == [6])
    part.add(b"def")
    part.end()
    assert await sending == "abcdef"
    assert store.asked == [6, 6]


async def test_a_store_that_does_not_take_a_whole_part_is_not_asked_for_ever() -> None:
    store, part = Store(refusals=9), Part(6)
    part.add(b"abcdef")
    part.end()
    with pytest.raises(ReelwayError):
        await part.send(store.put)
    assert store.asked == [6]
