"""Who may read is asked anew soon wherever the answer is remembered once more; and what all reads may hold."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast
from unittest.mock import Mock

import pytest
from prometheus_client import REGISTRY
from reelway.v1 import media_pb2

from services.common.byte_messages import decode_read_response
from services.common.catalog_client import CatalogClient
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.range_client import LONG
from services.stream.playback import LONG_WINDOW_HOLDS, WINDOW_HOLDS, Playback
from services.stream.video_cache import VideoCache
from tests.support.waiting import until


class Catalog:
    """Has one video, until it is hidden."""

    hidden = False

    async def get(self, *, video_id: str = "", number: int = 0) -> media_pb2.Video:
        if self.hidden:
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        return media_pb2.Video(video_id="v1", state=media_pb2.VIDEO_STATE_READY, object_key="videos/v1.mp4")


class Finder:
    """Stands for the versions of a video, and for the store that signs."""

    async def find(self, video: media_pb2.Video, *args: Any) -> Mock:
        return Mock(size=2**40)

    async def read(self, version: Any, offset: int, length: int) -> AsyncIterator[bytes]:
        for at in range(0, length, 2**18):
            yield bytes(min(length - at, 2**18))

    async def presign_get(self, *args: Any) -> str:
        return "signed"


async def refusals(playback: Playback) -> list[ErrorReason | None]:
    found: list[ErrorReason | None] = []
    for asked in (playback.stat(video_id="v1"), playback.stat(number=1), playback.presign("v1", 60, "video/mp4", "")):
        try:
            await asked
            found.append(None)
        except ReelwayError as error:
            found.append(error.reason)
    return found


async def test_what_was_hidden_is_not_found_long_before_reads_are_refused() -> None:
    catalog, finder = Catalog(), cast(Any, Finder())
    playback = Playback(VideoCache(cast(CatalogClient, catalog), 10), finder, finder, 0)
    assert await refusals(playback) == [None] * 3
    catalog.hidden = True

    async def all_are_refused() -> bool:
        return await refusals(playback) == [ErrorReason.VIDEO_NOT_FOUND] * 3

    await until(all_are_refused, 5)


async def test_windows_under_way_have_one_bound_and_make_room_where_they_end() -> None:
    def held() -> float:
        return REGISTRY.get_sample_value("reelway_stream_buffer_bytes") or 0

    before, finder = held(), cast(Any, Finder())
    videos = VideoCache(cast(CatalogClient, Catalog()), 10)
    # They leave a quarter to short ranges.
    playback = Playback(videos, finder, finder, (LONG_WINDOW_HOLDS + WINDOW_HOLDS) * 4 // 3)
    short, long, one_more = (playback.read("v1", 0, length, "") for length in (LONG - 1, LONG, 1))
    await anext(short)
    await anext(long)
    assert held() - before == LONG_WINDOW_HOLDS + WINDOW_HOLDS
    with pytest.raises(ReelwayError) as refused:
        await anext(one_more)
    assert refused.value.reason is ErrorReason.TOO_MANY_REQUESTS
    with contextlib.ExitStack() as held_by_one, contextlib.ExitStack() as held_by_other:
        assert len(await playback.read_range("v1", 0, 2**19, "", held_by_one)) > 2**19
        assert held() - before == LONG_WINDOW_HOLDS + WINDOW_HOLDS + 2**20, "it may not be taken yet"
        with pytest.raises(ReelwayError) as refused:
            await playback.read_range("v1", 0, 2**19 + 1, "", held_by_other)
        assert refused.value.reason is ErrorReason.TOO_MANY_REQUESTS
    await cast(AsyncGenerator[bytes], short).aclose()
    messages = [decode_read_response(message) async for message in playback.read("v1", 0, 2**20, "")]
    assert list(map(len, messages)) == [2**18, 2**19, 2**18]
    assert [message async for message in long]
    assert held() == before
